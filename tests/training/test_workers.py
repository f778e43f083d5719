"""One worker or many: the same losses, the same weights, to the rounding of a sum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gang import gang
from safetensors.torch import load_file
from torch import nn

from muppet_dag.errors import MuppetError
from muppet_dag.recipes import MixtureSection
from muppet_dag.training.__main__ import main
from muppet_dag.training.group import BUCKET, Group
from muppet_dag.training.launch import run

TASKS = ("sst2", "stsb", "commonsense_qa", "squad")
#: Three slots a step: with two workers one has more to do, with four one has nothing.
FEW = MixtureSection(slot_tokens=512, slot_rows=8, slots_per_step=3, bucket_slots=4, steps=10)
DROPOUT = (0.0, 0.1)
SHARDING = ("none", pytest.param("fsdp", marks=pytest.mark.slow))


@pytest.fixture(scope="module")
def trained(bench, tmp_path_factory):
    """Runs a job for each dropout on so many workers, sharded or not; returns the folder."""
    folder, done = tmp_path_factory.mktemp("workers"), set()

    def runs(workers: int, sharding: str = "none") -> Path:
        output = folder / f"{workers}-{sharding}"
        if output not in done:
            done.add(output)
            jobs = [output / str(dropout) / "job.json" for dropout in DROPOUT]
            for dropout, job in zip(DROPOUT, jobs, strict=True):
                bench.job(
                    job.parent, *TASKS, mixture=FEW, dropout=dropout, precision="float32",
                    sharding=sharding, validate_every=5, regularizer="r3f", fuse_noised=False,
                ).write(job)  # fmt: skip
            if workers == 1:
                assert main([str(job) for job in jobs]) == 0
            else:
                run(jobs, workers)
        return output

    return runs


def metrics(output: Path, prefix: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k.startswith(prefix)} for line in lines]


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sharding", SHARDING)
@pytest.mark.parametrize("dropout", DROPOUT)
def test_any_number_of_workers_gives_the_same_losses_and_weights(
    trained, workers, sharding, dropout
):
    alone, together = trained(1) / str(dropout), trained(workers, sharding) / str(dropout)
    # Correlations over four rows are that sensitive.
    for prefix, near in (("train/loss", 1e-5), ("validation/", 1e-3)):
        one, other = metrics(alone, prefix), metrics(together, prefix)
        assert any(one) and len(one) == len(other)
        for line, same in zip(one, other, strict=True):
            assert line == pytest.approx(same, abs=near)
    for file in ("model.safetensors", "heads.safetensors"):
        one, other = (load_file(output / "model" / file) for output in (alone, together))
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-5)


def test_dropout_makes_a_difference(trained):
    without, with_dropout = (
        metrics(trained(1) / str(dropout), "train/loss") for dropout in DROPOUT
    )
    assert without != with_dropout


def add_up(group: Group, folder: str) -> None:
    """Gradients of three types and sizes: used by all, by rank 1 only, by nobody."""
    shapes = [((BUCKET // 8, 3), torch.float32), ((5,), torch.float64), ((2, 2), torch.float32)]
    parameters = [
        nn.Parameter(torch.zeros(shape, dtype=kind)) for shape, kind in shapes for _ in "abc"
    ]
    for number, parameter in enumerate(parameters):
        if number % 3 == 0 or (number % 3 == 1 and group.rank == 1):
            parameter.grad = torch.full_like(parameter, number + 10.0**group.rank)
    group.sum_gradients(parameters)
    grads = [p.grad for p in parameters]
    gradients = [g if g is None else (str(g.dtype), g.unique().tolist(), g.shape) for g in grads]
    Path(folder, str(group.rank)).write_text(json.dumps(gradients))


def test_gradients_are_summed_where_any_worker_has_one(tmp_path):
    """The first two are larger than a bucket, and types take turns."""
    assert gang(2, add_up, str(tmp_path)) == [0, 0]
    one, other = (json.loads((tmp_path / rank).read_text()) for rank in "01")
    assert one == other
    for number, gradient in enumerate(one):
        expected = {0: [2 * number + 11.0], 1: [number + 10.0], 2: None}[number % 3]
        assert (gradient and gradient[1]) == expected
    assert [gradient[0] for gradient in one[::3]] == [
        "torch.float32",
        "torch.float64",
        "torch.float32",
    ]


@pytest.mark.slow
def test_a_launch_that_cannot_go_on_says_why_and_is_not_tried_again(tmp_path):
    messages = []
    with pytest.raises(MuppetError, match=r"nowhere\.json: not a job file .*No such file"):
        run([tmp_path / "nowhere.json"], 1, notify=messages.append)
    assert messages == []
