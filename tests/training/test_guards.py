"""What goes wrong is named: the step, the task, the rows. Or it is skipped, if so wished."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from workbench import weights

from muppet_dag.errors import MuppetError
from muppet_dag.recipes import MixtureSection
from muppet_dag.training import guards
from muppet_dag.training.__main__ import run
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group
from muppet_dag.training.launch import run as launch
from muppet_dag.training.trainer import Trainer

ALONE = Group(0, 1, torch.device("cpu"))
#: One slot a step, so that a step is of one task.
SINGLE = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=1, steps=12)


def rows_of(output: Path, step: int, task: str) -> list[int]:
    table = pa.ipc.open_file(pa.memory_map(str(output / "mixture.arrow"))).read_all().to_pylist()
    return [row["row"] for row in table if row["step"] == step and row["task"] == task]


def spoilt(bench, output: Path):
    """A model whose span head says nothing but NaN: steps with squad fail, others do not."""
    run(bench.job(output, "sst2", "squad"), ALONE)
    from safetensors.torch import load_file, save_file

    path = output / "model" / "heads.safetensors"
    heads = load_file(path)
    heads["mrc.projection.weight"].fill_(math.nan)
    save_file(heads, path)
    return output / "model"


def on(model: Path, job):
    from dataclasses import replace

    return replace(job, init=str(model))


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


# --- Not finite -----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_task_and_rows(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", "squad"), ALONE)
    with torch.no_grad():
        trainer.model.heads["mrc"].projection.weight.fill_(math.inf)
    with pytest.raises(
        MuppetError, match=r"loss of task 'squad' is nan \(slot \d+, token"
    ) as caught:
        trainer.run()
    step = int(str(caught.value).split()[1].rstrip(":"))
    written = json.loads((tmp_path / f"nonfinite-step-{step}.json").read_text())
    assert written["step"] == step
    assert {each["task"] for each in written["slots"]} == {"squad"}
    rows = [row for each in written["slots"] for row in each["rows"]]
    assert sorted(rows) == sorted(rows_of(tmp_path, step, "squad"))
    assert all(f"token rows {each['rows']})" in str(caught.value) for each in written["slots"][:3])
    assert "heads.mrc.projection.weight" in written["parameters"]
    assert not (tmp_path / "model").exists()


def test_a_gradient_that_is_not_finite_names_the_task_it_comes_from(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", "rte", clip_norm=1.0), ALONE)
    trainer.model.heads["sst2"].projection.weight.register_hook(lambda g: g * math.inf)
    with pytest.raises(MuppetError, match=r"gradient of heads.sst2.projection.weight.*from sst2"):
        trainer.run()
    (path,) = tmp_path.glob("nonfinite-step-*.json")
    written = json.loads(path.read_text())
    assert {each["task"] for each in written["slots"]} == {"sst2"}
    assert written["parameters"] == ["heads.sst2.projection.weight"]


def test_a_skipped_step_leaves_weights_and_optimizer_alone(bench, tmp_path):
    job = bench.job(tmp_path, "sst2", mixture=SINGLE, on_nonfinite="skip", ema=0.9, warmup=0.0)
    trainer = Trainer(job, ALONE)

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * (math.nan if trainer.done == 4 else 1)

    trainer.model.heads["sst2"].dense.weight.register_hook(poison)
    state = trainer.model.state_dict()
    for step in trainer.loader:
        rate = trainer.optimizer.param_groups[0]["lr"]
        before = {name: tensor.clone() for name, tensor in state.items()}
        averages = {name: tensor.clone() for name, tensor in trainer.ema.averages.items()}
        moments = {p: s["exp_avg"].clone() for p, s in trainer.optimizer.state.items()}
        trainer.update(step)
        skipped = step.number == 4
        moved = [name for name in state if not torch.equal(before[name], state[name])]
        assert bool(moved) != skipped
        if skipped:
            kept = trainer.ema.averages
            assert all(torch.equal(averages[name], kept[name]) for name in kept)
            new = trainer.optimizer.state
            assert all(torch.equal(moments[p], new[p]["exp_avg"]) for p in moments)
        assert trainer.optimizer.param_groups[0]["lr"] < rate
        assert trainer.done == step.number + 1
    assert trainer.guard.state() == {"skipped": 1, "in_a_row": 0}


def test_skipped_steps_are_told_and_counted_in_no_mean(bench, tmp_path, capsys):
    bad = spoilt(bench, tmp_path / "spoilt")
    job = bench.job(tmp_path / "run", "sst2", "squad", mixture=SINGLE, on_nonfinite="skip",
                    log_every=3)  # fmt: skip
    run(on(bad, job), ALONE)
    fails = [n for n in range(SINGLE.steps) if rows_of(tmp_path / "run", n, "squad")]
    assert 0 < len(fails) < SINGLE.steps
    train = [line for line in lines(tmp_path / "run") if "train/skipped" in line]
    assert train[-1]["train/skipped"] == len(fails)
    assert all(math.isfinite(value) for line in train for value in line.values())
    assert not any("train/loss/squad" in line for line in train)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["skipped"] == len(fails)
    assert capsys.readouterr().err.count("the step is skipped") == len(fails)


def test_too_many_skipped_in_a_row_stop_the_run(bench, tmp_path):
    bad = spoilt(bench, tmp_path / "spoilt")
    job = bench.job(tmp_path / "run", "squad", on_nonfinite="skip", max_skipped=3)
    with pytest.raises(MuppetError, match=r"step 3: .*4 steps in a row.*max_skipped is 3"):
        run(on(bad, job), ALONE)


@pytest.mark.parametrize("sharding", [pytest.param("none", marks=pytest.mark.slow), "fsdp"])
def test_all_workers_skip_alike(bench, tmp_path, sharding):
    """The bad slots are one worker's, the skipped steps are everybody's."""
    bad, outputs = spoilt(bench, tmp_path / "spoilt"), []
    mixture = MixtureSection(slot_tokens=512, slot_rows=8, slots_per_step=2, steps=8)
    for workers in (1, 2):
        output = tmp_path / str(workers)
        job = bench.job(output, "sst2", "rte", "squad", mixture=mixture, on_nonfinite="skip",
                        log_every=8, dropout=0.0, sharding=sharding)  # fmt: skip
        on(bad, job).write(output / "job.json")
        launch([output / "job.json"], workers)
        outputs.append(output)
    reports = [
        [json.loads(path.read_text()) for path in sorted(output.glob("nonfinite-step-*.json"))]
        for output in outputs
    ]
    for report in (each for output in reports for each in output):
        report["parameters"].sort()  # sharded or not, they come in another order
    assert reports[0] and reports[0] == reports[1]
    assert not list(outputs[1].glob(".nonfinite*"))
    alone, together = ([line for line in lines(o) if "train/loss" in line][-1] for o in outputs)
    assert alone["train/skipped"] == together["train/skipped"] == len(reports[0]) < mixture.steps
    for name in ("train/loss", "train/loss/sst2", "train/gradient_norm"):
        assert alone[name] == pytest.approx(together[name], rel=1e-4)


def test_skipped_steps_are_remembered_by_a_resumed_run(bench, tmp_path):
    bad = spoilt(bench, tmp_path / "spoilt")
    settings = {"mixture": SINGLE, "on_nonfinite": "skip", "log_every": 5, "checkpoint_every": 2}
    through = on(bad, bench.job(tmp_path / "through", "sst2", "squad", **settings))
    run(through, ALONE)
    resumed = on(bad, bench.job(tmp_path / "resumed", "sst2", "squad", **settings))
    trainer = Trainer(resumed, ALONE)
    for step in trainer.loader:
        trainer.update(step)
        trainer._after()
        if step.number == 7:
            break
    run(resumed, ALONE)
    for line, other in zip(lines(tmp_path / "through"), lines(tmp_path / "resumed"), strict=True):
        assert line.get("train/skipped") == other.get("train/skipped")
        assert line.get("train/loss") == other.get("train/loss")
    assert weights(tmp_path / "through" / "model") == weights(tmp_path / "resumed" / "model")


# --- Memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")],
)  # fmt: skip
def test_out_of_memory_names_the_slots_and_what_to_lower(bench, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Engine, "losses", fail)
    with pytest.raises(MuppetError) as caught:
        run(bench.job(tmp_path, "sst2", slots_per_pass=2), ALONE)
    for part in ("step 0", "slots 0 to 1", "sst2 (8 rows,", "padded tokens", "mixture.slot_tokens",
                 "training.slots_per_pass", "training.fuse_noised"):  # fmt: skip
        assert part in str(caught.value)


def test_out_of_memory_in_the_optimizer_is_told_as_such(bench, tmp_path, monkeypatch):
    trainer = Trainer(bench.job(tmp_path, "sst2"), ALONE)

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.optimizer, "step", fail)
    with pytest.raises(MuppetError, match="while the weights were updated"):
        trainer.run()


def test_another_error_of_a_pass_is_not_taken_for_lack_of_memory(bench, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Engine, "losses", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(bench.job(tmp_path, "sst2"), ALONE)


# --- Losses that run away -------------------------------------------------------------------------


def test_a_task_that_runs_away_is_warned_of_once_until_it_is_back():
    warned_before: set[str] = set()
    for loss, warned in ((1.0, 0), (3.5, 1), (4.0, 0), (0.9, 0), (3.1, 1)):
        values = {"train/loss/rte": loss, "train/loss/sst2": 1.0, "train/loss": 9.0}
        warnings = guards.runaways(values, warned_before)
        assert len(warnings) == warned
        assert all("'rte'" in each for each in warnings)
