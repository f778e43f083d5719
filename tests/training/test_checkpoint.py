"""Checkpoints: exact, whole or not there, kept as said, and read by any number of workers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import passes
import pytest
import torch
from gang import gang
from rehearsal import STEPS, Rehearsal

from muppet_dag.errors import MuppetError
from muppet_dag.recipes import TrainingSection
from muppet_dag.training import checkpoint, sharding
from muppet_dag.training.checkpoint import Checkpoints
from muppet_dag.training.group import Group

ALONE = Group(0, 1, torch.device("cpu"))
OPTIMIZERS = ("adamw", "adamax", "sgd")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    torch.manual_seed(5)
    return str(passes.make(tmp_path_factory.mktemp("base"), "bert"))


def settings(**keys) -> TrainingSection:
    return TrainingSection(**{"learning_rate": 1e-3, "clip_norm": 1.0, "ema": 0.9, **keys})


def ready(base: str, group: Group = ALONE, **keys) -> Rehearsal:
    rehearsal = Rehearsal(base, settings(**keys))
    rehearsal.prepare(group)
    return rehearsal


def keeper(folder: Path, rehearsal: Rehearsal, fingerprint: str = "this job") -> Checkpoints:
    return Checkpoints(folder, fingerprint, rehearsal.training, rehearsal.group)


def save(kept: Checkpoints, step: int, run: Rehearsal, **keys) -> None:
    kept.save(step, run.model, run.optimizer, keys, run.ema)


def restore(kept: Checkpoints, run: Rehearsal) -> tuple[int, dict]:
    return kept.restore(run.model, run.optimizer, run.ema)


def everything(run: Rehearsal) -> dict[str, torch.Tensor]:
    """Weights, averages and optimizer state, copied."""
    names = {id(p): name for name, p in run.model.named_parameters()}
    state = {
        f"{names[id(p)]}/{key}": value
        for p, values in run.optimizer.state.items()
        for key, value in values.items()
    }
    averages = {f"{name}/average": tensor for name, tensor in run.ema.averages.items()}
    tensors = {**run.model.state_dict(), **state, **averages}
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in folder.glob("step-*"))


# --- Exact ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True], ids=["at once", "in the background"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_going_on_from_a_checkpoint_is_as_if_nothing_had_been(base, tmp_path, optimizer, later):
    """Saved after one step, when some heads have been used and others have no optimizer state."""
    keys = {"optimizer": optimizer, "dropout": 0.1, "async_checkpoints": later}
    whole = ready(base, **keys)
    kept = keeper(tmp_path, whole)
    whole.run(0, 1)
    save(kept, 1, whole, waited=3, base={"sst2": 0.5})
    at_save = everything(whole)
    whole.run(1)
    kept.wait()

    again = ready(base, **keys)
    assert restore(keeper(tmp_path, again), again) == (1, {"waited": 3, "base": {"sst2": 0.5}})
    assert same(everything(again), at_save)
    unused = again.model.heads["number"].projection.weight
    assert unused not in again.optimizer.state
    again.run(1)
    assert same(everything(again), everything(whole))
    assert whole.losses[1:] == again.losses


def test_without_a_checkpoint_it_begins(base, tmp_path):
    run = ready(base)
    before = everything(run)
    assert restore(keeper(tmp_path / "new", run), run) == (0, {})
    assert same(everything(run), before)


def test_there_is_no_pickle_in_it(base, tmp_path):
    run = ready(base)
    run.run(0, 2)
    save(keeper(tmp_path, run), 2, run)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}


# --- Any number of workers ------------------------------------------------------------------------

HALF = STEPS // 2


def first_half(group: Group, base: str, folder: str, sharded: str) -> None:
    run = ready(base, group, sharding=sharded, async_checkpoints=True)
    run.run(0, HALF)
    kept = keeper(Path(folder), run)
    save(kept, HALF, run)
    kept.wait()


def second_half(group: Group, base: str, folder: str, sharded: str, output: str) -> None:
    run = ready(base, group, sharding=sharded)
    step, _ = restore(keeper(Path(folder), run), run)
    assert step == HALF
    if output:
        run.run(step)
        run.write(Path(output))
    else:
        state = sharding.full_state(run.model)
        assert state.keys() == run.model.state_dict().keys()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, "none"), (2, "fsdp")),
        ((2, "fsdp"), (1, "none")),
        pytest.param((2, "none"), (4, "fsdp"), marks=pytest.mark.slow),
        pytest.param((4, "fsdp"), (2, "fsdp"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_other_workers_go_on_from_it_sharded_or_not(base, tmp_path, before, after):
    from safetensors.torch import load_file

    def on(place, work, *args) -> None:
        workers, kind = place
        if workers == 1:
            work(ALONE, base, str(tmp_path / "kept"), kind, *args)
        else:
            codes = gang(workers, work, base, str(tmp_path / "kept"), kind, *args)
            assert codes == [0] * workers

    on(before, first_half)
    on(after, second_half, str(tmp_path / "end"))
    whole = ready(base)
    whole.run()
    whole.write(tmp_path / "whole")
    for file in ("model.safetensors", "average.safetensors"):
        one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "end" / file)
        for name in one:
            if "projection.bias" not in name:  # see test_sharding.UNDECIDED
                torch.testing.assert_close(one[name], other[name], rtol=0, atol=1e-5, msg=name)


# --- What is kept ---------------------------------------------------------------------------------


def test_the_last_the_regular_and_the_best_stay(base, tmp_path):
    run = ready(base, keep=2, keep_every=4)
    kept = keeper(tmp_path, run)
    for step in range(1, 11):
        save(kept, step, run)
        if step == 3:
            kept.mark_best(3)
    assert steps(tmp_path) == [3, 4, 8, 9, 10]
    assert kept.best().name == "step-00000003"
    kept.mark_best(10)
    save(kept, 11, run)
    assert steps(tmp_path) == [4, 8, 10, 11]


def test_the_best_weights_come_back(base, tmp_path):
    run = ready(base, keep=1)
    kept = keeper(tmp_path, run)
    run.run(0, 2)
    kept.mark_best(2)
    assert kept.best() is None  # marked, but not saved yet
    save(kept, 2, run)
    best = everything(run)
    run.run(2, 5)
    save(kept, 5, run)
    kept.restore_best(run.model, run.ema)
    restored = everything(run)
    weights = [name for name in best if name in run.model.state_dict() or "/average" in name]
    assert all(torch.equal(restored[name], best[name]) for name in weights)


def test_there_may_be_no_best(base, tmp_path):
    run = ready(base)
    with pytest.raises(MuppetError, match="no checkpoint is marked"):
        keeper(tmp_path, run).restore_best(run.model)


# --- What must not pass silently ------------------------------------------------------------------


def test_another_job_refuses_it(base, tmp_path):
    run = ready(base)
    save(keeper(tmp_path, run), 1, run)
    with pytest.raises(MuppetError, match=r"written by another job.*Delete"):
        restore(keeper(tmp_path, run, "another job"), run)


def spoil(path: Path) -> None:
    """One byte in the middle is another."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["*.safetensors", "state.json"])
@pytest.mark.parametrize(
    "harm", [spoil, lambda path: os.truncate(path, 100), lambda p: p.write_bytes(b"")]
)
def test_damage_names_the_file_and_the_way_out(base, tmp_path, file, harm):
    run = ready(base)
    kept = keeper(tmp_path, run)
    run.run(0, 1)
    save(kept, 1, run)
    good = everything(run)
    save(kept, 2, run)
    path = next((tmp_path / "step-00000002").glob(file))
    harm(path)
    with pytest.raises(MuppetError, match=rf"{path.name} is damaged.*Delete the folder"):
        restore(kept, run)
    for each in path.parent.iterdir():
        each.unlink()
    assert restore(kept, run)[0] == 1 and same(everything(run), good)


def test_a_missing_part_is_damage(base, tmp_path):
    run = ready(base)
    kept = keeper(tmp_path, run)
    save(kept, 1, run)
    next((tmp_path / "step-00000001").glob("*.safetensors")).unlink()
    with pytest.raises(MuppetError, match="is damaged"):
        restore(kept, run)


@pytest.mark.parametrize("later", [False, True], ids=["at once", "in the background"])
def test_a_write_that_fails_is_told_and_leaves_the_one_before(base, tmp_path, monkeypatch, later):
    run = ready(base, async_checkpoints=later)
    kept = keeper(tmp_path, run)
    save(kept, 1, run, good=True)
    kept.wait()

    def full(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(MuppetError, match=r"step 2 could not be written.*No space left"):
        save(kept, 2, run)
        kept.wait()
    monkeypatch.undo()
    assert steps(tmp_path) == [1] and restore(kept, run) == (1, {"good": True})
    save(kept, 3, run)
    kept.wait()
    assert restore(kept, run)[0] == 3


def test_an_unfinished_write_is_not_seen_and_swept_up(base, tmp_path):
    run = ready(base)
    kept = keeper(tmp_path, run)
    for name in (".writing", ".removing", "step-00000099"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shard-00001-model-00001-of-00001.safetensors").write_bytes(b"half")
    assert restore(kept, run) == (0, {})
    save(kept, 1, run)
    assert restore(kept, run)[0] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000099"]


def test_what_is_said_is_plain_json(base, tmp_path):
    run = ready(base)
    save(keeper(tmp_path, run), 1, run, best=0.25, tasks=["rte"])
    state = json.loads((tmp_path / "step-00000001" / "state.json").read_text())
    assert state["said"] == {"best": 0.25, "tasks": ["rte"]} and state["step"] == 1
