"""One worker or many: the same losses, the same weights, to the rounding of a sum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from muppet_dag.errors import MuppetError
from muppet_dag.recipes import MixtureSection
from muppet_dag.training.__main__ import main
from muppet_dag.training.launch import run

TASKS = ("sst2", "stsb", "commonsense_qa", "squad")
#: Three slots a step: with two workers one has more to do, with four one has nothing.
FEW = MixtureSection(slot_tokens=512, slot_rows=8, slots_per_step=3, bucket_slots=4, steps=10)
DROPOUT = (0.0, 0.1)


@pytest.fixture(scope="module")
def made(bench, tmp_path_factory):
    """Runs both jobs (without and with dropout) on so many workers; returns the output folder."""
    folder, done = tmp_path_factory.mktemp("workers"), {}

    def runs(workers: int) -> Path:
        if workers not in done:
            done[workers] = folder / str(workers)
            jobs = []
            for dropout in DROPOUT:
                output = done[workers] / str(dropout)
                job = bench.job(output, *TASKS, mixture=FEW, dropout=dropout, precision="float32")
                job.write(output / "job.json")
                jobs.append(output / "job.json")
            if workers == 1:
                assert main([str(job) for job in jobs]) == 0
            else:
                run(jobs, workers)
        return done[workers]

    return runs


def losses(output: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k.startswith("train/loss")} for line in lines]


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dropout", DROPOUT)
def test_any_number_of_workers_gives_the_same_losses_and_weights(made, workers, dropout):
    alone, together = (made(n) / str(dropout) for n in (1, workers))
    for one, other in zip(losses(alone), losses(together), strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for file in ("model.safetensors", "heads.safetensors"):
        one, other = (load_file(output / "model" / file) for output in (alone, together))
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-5)


def test_dropout_makes_a_difference(made):
    without, with_dropout = (losses(made(1) / str(dropout)) for dropout in DROPOUT)
    assert without != with_dropout


@pytest.mark.slow
def test_a_launch_that_fails_says_so(tmp_path):
    with pytest.raises(MuppetError, match=r"exit code 1; run again to resume"):
        run([tmp_path / "nowhere.json"], 1)
