"""One pass: the mean of scaled losses, and noise that seed, step and first slot alone decide."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from muppet_dag.errors import BadConfig
from muppet_dag.mixture.loader import Loader
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group

ALONE = Group(0, 1, torch.device("cpu"))
#: What draws random numbers in training: dropout, and the noise of R3F.
NOISY = {"dropout": {"dropout": 0.3}, "r3f": {"regularizer": "r3f", "r3f_epsilon": 0.5}}


@pytest.fixture(scope="module")
def make(bench, tmp_path_factory) -> Callable[..., Engine]:
    def make(*, seed: int = 1, **training) -> Engine:
        folder = tmp_path_factory.mktemp("engine")
        settings = {"dropout": 0.0, **training}
        return Engine(bench.job(folder, "sst2", "rte", seed=seed, **settings), ALONE)

    return make


def slot_of(engine: Engine, task: str):
    """The first slot of a task in the engine's mixture."""
    tokens = {each.name: Path(each.tokens) for each in engine.job.tasks}
    for step in Loader(Path(engine.job.mixture), tokens):
        for each in step.passes:
            for _, batch in each.slots:
                if batch.task == task:
                    return batch
    raise AssertionError(task)


@pytest.mark.parametrize("noise", NOISY)
def test_every_pass_of_every_step_draws_its_own_noise(make, noise):
    """Equal rows, so all that differs is what was drawn."""
    engine = make(**NOISY[noise])
    batch = slot_of(engine, "sst2")
    places = [(step, slot) for step in (0, 1, 5) for slot in (0, 1, 2, 7)]
    values = {place: float(engine.losses(place[0], [(place[1], batch)])[0]) for place in places}
    assert len(set(values.values())) == len(places)
    again = {place: float(engine.losses(place[0], [(place[1], batch)])[0]) for place in places}
    assert again == values


def test_noise_depends_on_the_seed_of_the_job_and_on_no_worker(make):
    values = []
    for seed, rank in ((1, 0), (1, 1), (2, 0)):
        engine = make(dropout=0.3)
        batch = slot_of(engine, "sst2")
        object.__setattr__(engine.job, "seed", seed)
        engine.rank = rank
        torch.manual_seed(rank)
        values.append(float(engine.losses(3, [(4, batch)])[0]))
    assert values[0] == values[1] != values[2]


def test_without_noise_all_passes_are_alike(make):
    engine = make()
    batch = slot_of(engine, "sst2")
    values = [engine.losses(step, [(slot, batch)])[0] for step, slot in ((0, 0), (0, 1), (3, 2))]
    assert all(torch.equal(a, b) for a, b in pairwise(values))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_slots_loss_is_the_mean_over_its_rows_over_log_n(make, scaled):
    """Of heads that are zero every class is as likely: log 2 a row, or 1."""
    engine = make(loss_scaling=scaled, label_smoothing=0.0)
    with torch.no_grad():
        for parameter in engine.model.heads.parameters():
            parameter.zero_()
    slots = [(0, slot_of(engine, "sst2")), (1, slot_of(engine, "rte"))]
    expected = 1.0 if scaled else math.log(2)
    assert [float(x) for x in engine.losses(0, slots)] == pytest.approx([expected] * 2)


def test_slots_that_share_a_pass_have_the_losses_they_have_alone(make):
    engine = make()
    slots = [(0, slot_of(engine, "sst2")), (1, slot_of(engine, "rte"))]
    together = [float(x) for x in engine.losses(0, slots)]
    alone = [float(engine.losses(0, [slot])[0]) for slot in slots]
    assert together == pytest.approx(alone, rel=1e-5)
    backwards = [float(x) for x in engine.losses(0, slots[::-1])]
    assert backwards == pytest.approx(alone[::-1], rel=1e-5) and alone[0] != alone[1]


@pytest.mark.parametrize(("kind", "world", "sharded"),
                         [("fsdp", 1, False), ("fsdp", 2, True), ("none", 2, False)])  # fmt: skip
def test_weights_are_spread_where_there_is_more_than_one_worker(
    bench, tmp_path, monkeypatch, kind, world, sharded
):
    spread = []
    monkeypatch.setattr("muppet_dag.training.sharding.shard", lambda *args: spread.append(args))
    job = bench.job(tmp_path, "sst2", sharding=kind)
    engine = Engine(job, Group(0, world, torch.device("cpu")))
    assert engine.sharded == bool(spread) == sharded


def test_a_model_that_cannot_be_packed_is_refused_where_that_is_asked_for(bench, tmp_path):
    job = bench.job(tmp_path, "sst2", base="tiny-bart", packing="on")
    with pytest.raises(BadConfig, match='packing is "on", and bart models cannot be packed'):
        Engine(job, ALONE)
    job = bench.job(tmp_path / "auto", "sst2", base="tiny-bart", packing="auto")
    assert not Engine(job, ALONE).model.packed
