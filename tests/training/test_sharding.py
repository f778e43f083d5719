"""Sharded over workers or not: the same losses, the same weights, to the rounding of a sum."""

from __future__ import annotations

import json
from pathlib import Path

import passes
import pytest
import torch
from gang import gang
from rehearsal import rehearse
from safetensors.torch import load_file

from muppet_dag.training import sharding
from muppet_dag.training.group import Group

ALONE = Group(0, 1, torch.device("cpu"))
COMMON = {"learning_rate": 2e-3, "clip_norm": 1.0, "ema": 0.9}
#: What may make workers take different ways through a pass: heads with and without noise, slots
#: that generate and slots that do not, two of them in one pass.
PLANS = {
    "plain": {"base": "bert", "training": {"dropout": 0.0}},
    "dropout": {"base": "bert", "training": {"dropout": 0.1}},
    "noise": {"base": "bert", "training": {
        "dropout": 0.1, "regularizer": "r4f", "fuse_noised": False, "r3f_epsilon": 1e-2,
    }},
    "writing": {"base": "bart", "generates": True, "training": {
        "dropout": 0.1, "regularizer": "r3f", "slots_per_pass": 2, "optimizer": "adamax",
        "weight_decay": 0.5,
    }},
    "momentum": {"base": "bert", "training": {
        "dropout": 0.0, "optimizer": "sgd", "weight_decay": 0.5,
    }},
}  # fmt: skip
#: A bias that all choices share: its gradient is 0 but for rounding, which Adam makes steps of.
UNDECIDED = {"heads.commonsense.projection.bias", "heads.mrc.projection.bias"}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """Runs all plans on so many workers, sharded or not; returns the output folder."""
    folder = tmp_path_factory.mktemp("sharding")
    for kind in ("bert", "bart"):
        torch.manual_seed(5)
        passes.make(folder / kind, kind)
    done: dict[str, Path] = {}

    def runs(workers: int, kind: str) -> Path:
        output = folder / f"{workers}-{kind}"
        plans = {
            name: {
                **plan,
                "base": str(folder / plan["base"]),
                "training": {**COMMON, **plan["training"], "sharding": kind},
            }
            for name, plan in PLANS.items()
        }
        if output.name not in done:
            if workers == 1:
                rehearse(ALONE, plans, str(output))
            else:
                assert gang(workers, rehearse, plans, str(output)) == [0] * workers
            done[output.name] = output
        return done[output.name]

    return runs


WORKERS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", ["none", "fsdp"])
@pytest.mark.parametrize("plan", PLANS)
def test_any_number_of_workers_sharded_or_not_learns_the_same(rehearsed, plan, kind, workers):
    alone, together = rehearsed(1, "none") / plan, rehearsed(workers, kind) / plan
    one, other = (json.loads((path / "losses.json").read_text()) for path in (alone, together))
    assert one == pytest.approx(other, abs=1e-5)
    for file in ("model.safetensors", "average.safetensors"):
        one, other = (load_file(path / file) for path in (alone, together))
        assert one.keys() == other.keys()
        for name in one.keys() - UNDECIDED:
            torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-5, msg=name)


def test_the_plans_differ_and_learn(rehearsed):
    losses_by_plan = {plan: json.loads((rehearsed(1, "none") / plan / "losses.json").read_text())
            for plan in PLANS}  # fmt: skip
    assert len({tuple(losses) for losses in losses_by_plan.values()}) == len(PLANS)
    for losses in losses_by_plan.values():
        assert sum(losses[-4:]) < sum(losses[:4])


def test_a_full_state_is_a_copy_that_training_does_not_change():
    model = torch.nn.Linear(2, 2)
    state = sharding.full_state(model)
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        model.weight += 1
    assert all(torch.equal(state[name], before[name]) for name in ("weight", "bias"))
