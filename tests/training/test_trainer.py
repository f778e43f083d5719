"""One training run: it learns, it says what it does, and it moves only what it should."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from workbench import SMALL, weights

from muppet_dag.errors import Interrupted
from muppet_dag.evaluation.predictions import Predictions
from muppet_dag.mixture.loader import Step
from muppet_dag.model.multitask import load, saved_heads
from muppet_dag.recipes import MixtureSection
from muppet_dag.training.__main__ import main, run
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job, Prediction
from muppet_dag.training.launch import command, environment
from muppet_dag.training.launch import run as launch
from muppet_dag.training.trainer import Trainer
from muppet_dag.training.turn import LOCK

ALONE = Group(0, 1, torch.device("cpu"))


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def losses(output: Path) -> dict[int, float]:
    return {line["step"]: line["train/loss"] for line in lines(output) if "train/loss" in line}


def tasks_of(step: Step) -> set[str]:
    return {batch.task for each in step.passes for _, batch in each.slots}


def replaced(job: Job, **changes) -> Job:
    return Job(**{**{k: getattr(job, k) for k in job.__dataclass_fields__}, **changes})


def test_the_loss_goes_down_on_every_family(bench, tmp_path):
    mixture = MixtureSection(slot_tokens=768, slot_rows=16, slots_per_step=4, steps=40)
    names = ("sst2", "stsb", "commonsense_qa", "squad", "aeslc")
    run(bench.job(tmp_path, *names, base="tiny-bart", mixture=mixture, learning_rate=3e-3), ALONE)
    for name in names:
        seen = [line[f"train/loss/{name}"] for line in lines(tmp_path)
                if f"train/loss/{name}" in line]  # fmt: skip
        third = max(1, len(seen) // 3)
        assert sum(seen[-third:]) / third < 0.9 * sum(seen[:third]) / third, name


def test_scaled_losses_of_all_tasks_start_near_one(bench, tmp_path):
    names = ("sst2", "commonsense_qa", "squad")
    run(bench.job(tmp_path, *names, learning_rate=1e-9), ALONE)
    for name in names:
        first = next(s[f"train/loss/{name}"] for s in lines(tmp_path) if f"train/loss/{name}" in s)
        assert first == pytest.approx(1, abs=0.15)


def test_without_loss_scaling_a_loss_is_the_plain_cross_entropy(bench, tmp_path):
    for scaling, name in ((True, "scaled"), (False, "plain")):
        run(bench.job(tmp_path / name, "sst2", loss_scaling=scaling, learning_rate=1e-9), ALONE)
    scaled, plain = losses(tmp_path / "scaled"), losses(tmp_path / "plain")
    assert plain == pytest.approx({step: v * math.log(2) for step, v in scaled.items()}, rel=1e-3)


def test_regression_targets_lie_between_zero_and_one(bench, tmp_path):
    """Else a regression task would drown all others, whose losses are about 1."""
    run(bench.job(tmp_path, "stsb", learning_rate=1e-9), ALONE)
    assert max(losses(tmp_path).values()) < 1


def test_each_step_is_reported_once_and_validation_beside_it(bench, tmp_path):
    run(bench.job(tmp_path, "sst2", "rte", validate_every=5), ALONE)
    train = [line for line in lines(tmp_path) if "train/loss" in line]
    assert [line["step"] for line in train] == list(range(10))
    checked = [line for line in lines(tmp_path) if "validation/mean" in line]
    assert [line["step"] for line in checked] == [4, 9]
    for line in checked:
        both = [line["validation/sst2/accuracy"], line["validation/rte/accuracy"]]
        assert line["validation/mean"] == pytest.approx(sum(both) / 2)
    for line in train:
        assert 0 < line["train/useful_share"] <= 1 and line["train/tokens_per_second"] > 0


def test_a_finished_run_says_how_many_steps_it_took(bench, tmp_path):
    run(bench.job(tmp_path, "sst2"), ALONE)
    ran = {"steps": 10, "device": "cpu", "workers": 1}
    assert json.loads((tmp_path / "run.json").read_text()) == ran


def test_validating_does_not_change_the_weights(bench, tmp_path):
    run(bench.job(tmp_path / "never", "sst2", "squad"), ALONE)
    run(bench.job(tmp_path / "often", "sst2", "squad", validate_every=2), ALONE)
    assert weights(tmp_path / "never" / "model") == weights(tmp_path / "often" / "model")


def test_the_learning_rate_warms_up_and_falls_to_zero(bench, tmp_path):
    run(bench.job(tmp_path, "sst2", warmup=0.3, learning_rate=1e-3), ALONE)
    rates = [line["train/learning_rate"] for line in lines(tmp_path) if "train/loss" in line]
    assert max(rates) == pytest.approx(1e-3) and rates.index(max(rates)) == 2
    assert rates[-1] == pytest.approx(0)


def test_a_finished_model_is_complete_on_its_own(bench, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    run(bench.job(tmp_path, "sst2", "squad"), ALONE)
    folder = tmp_path / "model"
    assert {head.name for head in saved_heads(folder)} == {"sst2", "mrc"}
    AutoModel.from_pretrained(folder)
    AutoTokenizer.from_pretrained(folder)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".arrow", ".lock"}


def test_a_head_is_still_there_after_tuning_on_another_task(bench, tmp_path):
    run(bench.job(tmp_path / "pre", "sst2", "squad"), ALONE)
    first = load(tmp_path / "pre" / "model", saved_heads(tmp_path / "pre" / "model"))
    job = replaced(bench.job(tmp_path / "fine", "rte"), init=str(tmp_path / "pre" / "model"))
    run(job, ALONE)
    folder = tmp_path / "fine" / "model"
    assert {head.name for head in saved_heads(folder)} == {"sst2", "mrc", "rte"}
    again = load(folder, saved_heads(folder))
    for name in ("sst2", "mrc"):
        one, other = first.heads[name].state_dict(), again.heads[name].state_dict()
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_predictions_of_the_saved_model_are_written(bench, tmp_path):
    prediction = Prediction(task="stsb", split="validation", rows=10)
    run(replaced(bench.job(tmp_path, "stsb"), predict=prediction), ALONE)
    predictions = Predictions.read(tmp_path / "predictions.arrow")
    assert len(predictions.ids) == 10
    assert all(math.isfinite(value) for value in predictions.predicted)


def test_a_finished_job_is_not_run_again(bench, tmp_path):
    job = replaced(bench.job(tmp_path, "sst2"),
                   predict=Prediction(task="sst2", split="validation", rows=4))  # fmt: skip
    run(job, ALONE)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.is_file()}
    del before[tmp_path / LOCK]
    run(job, ALONE)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_killed_before_its_predictions_only_predicts(bench, tmp_path):
    prediction = Prediction(task="sst2", split="validation", rows=4)
    job = replaced(bench.job(tmp_path, "sst2"), predict=prediction)
    run(job, ALONE)
    before, first = weights(tmp_path / "model"), Predictions.read(tmp_path / "predictions.arrow")
    reported = lines(tmp_path)
    (tmp_path / "predictions.arrow").unlink()
    run(job, ALONE)
    assert Predictions.read(tmp_path / "predictions.arrow") == first
    assert (weights(tmp_path / "model"), lines(tmp_path)) == (before, reported)


def test_a_job_is_read_as_it_was_written(bench, tmp_path):
    job = replaced(bench.job(tmp_path, "sst2", "squad"),
                   predict=Prediction(task="sst2", split="validation", rows=4))  # fmt: skip
    job.write(tmp_path / "job.json")
    again = Job.read(tmp_path / "job.json")
    assert again.fingerprint == job.fingerprint
    assert again == job


# --- Heads that a step does not use ---------------------------------------------------------------


def test_a_head_without_rows_in_a_step_is_not_moved(bench, tmp_path):
    """Not by weight decay either, nor by momentum from earlier steps."""
    mixture = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=1, steps=16)
    job = bench.job(tmp_path, "sst2", "rte", "squad", mixture=mixture, weight_decay=0.5, warmup=0.0)
    trainer = Trainer(job, ALONE)
    used = {"sst2": "sst2", "rte": "rte", "squad": "mrc"}
    for step in trainer.loader:
        heads = trainer.model.heads
        before = {n: [p.clone() for p in heads[n].parameters()] for n in heads}
        rate = trainer.optimizer.param_groups[0]["lr"]
        trainer.update(step)
        active = {used[task] for task in tasks_of(step)}
        for name, old in before.items():
            same = all(map(torch.equal, old, heads[name].parameters()))
            assert same == (name not in active or rate == 0)


# --- What must not pass silently ------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"mixture_hash": "other"}, {"init_hash": "other"}, {"seed": 2}, {"learning_rate": 2e-3}],
)
def test_another_mixture_or_setting_refuses_to_resume(bench, tmp_path, capsys, change):
    settings = {"checkpoint_every": 4}
    settings |= {k: v for k, v in change.items() if k == "learning_rate"}
    run_part(bench.job(tmp_path, "sst2", checkpoint_every=4))
    job = bench.job(tmp_path, "sst2", **settings)
    job = replaced(job, **{k: v for k, v in change.items() if k != "learning_rate"})
    job.write(tmp_path / "job.json")
    assert main([str(tmp_path / "job.json")]) == 1
    message = capsys.readouterr().err
    if "init_hash" in change:  # the model's own folder tells
        assert "the job was written for other" in message
    else:
        assert "was written by another job" in message and "Delete" in message
    assert not (tmp_path / "model").exists()


def run_part(job: Job) -> None:
    """Run until some steps after the first checkpoint, as if the process was then killed."""
    trainer = Trainer(job, ALONE)
    for step in trainer.loader:
        trainer.update(step)
        trainer._after()
        if step.number == 5:
            return


def test_after_a_resume_each_step_is_reported_once(bench, tmp_path):
    job = bench.job(tmp_path, "sst2", checkpoint_every=4)
    run_part(job)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "train/lo')  # killed while writing
    run(job, ALONE)
    assert [line["step"] for line in lines(tmp_path) if "train/loss" in line] == list(range(10))


def test_only_the_last_checkpoints_are_kept(bench, tmp_path):
    run(bench.job(tmp_path, "sst2", checkpoint_every=2, keep=2), ALONE)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000006", "step-00000008"]


def test_the_same_job_gives_the_same_weights_and_another_seed_others(bench, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        run(bench.job(tmp_path / name, "sst2", "squad", seed=seed), ALONE)
    one, again, other = (weights(tmp_path / name / "model") for name in ("one", "again", "other"))
    assert one == again
    assert one["model.safetensors"] != other["model.safetensors"]


def test_steps_hold_several_tasks(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", "rte", "squad", mixture=SMALL), ALONE)
    tasks = [tasks_of(step) for step in trainer.loader]
    assert sum(len(each) > 1 for each in tasks) >= len(tasks) // 2


# --- Options of the engine ------------------------------------------------------------------------


def trained(bench, output: Path, **settings) -> dict[str, torch.Tensor]:
    """All weights after a short run without dropout."""
    job = bench.job(output, "sst2", "commonsense_qa", "squad", **{"dropout": 0.0, **settings})
    run(job, ALONE)
    return {**load_file(output / "model" / "model.safetensors"),
            **load_file(output / "model" / "heads.safetensors")}  # fmt: skip


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("settings", [{"slots_per_pass": 3}, {"packing": "on"},
                                      {"slots_per_pass": 4, "packing": "on"}])  # fmt: skip
def test_fused_and_packed_passes_take_the_same_updates(bench, tmp_path, settings):
    plain = trained(bench, tmp_path / "plain")
    assert furthest(plain, trained(bench, tmp_path / "other", **settings)) < 1e-4


def test_packed_nothing_is_padded(bench, tmp_path):
    run(bench.job(tmp_path, "sst2", "squad", packing="on"), ALONE)
    assert {line.get("train/useful_share", 1.0) for line in lines(tmp_path)} == {1.0}


def test_bfloat16_computes_otherwise_and_keeps_float32_weights(bench, tmp_path):
    full = trained(bench, tmp_path / "full")
    half = trained(bench, tmp_path / "half", precision="bfloat16")
    assert 0 < furthest(full, half) < 0.05
    assert {tensor.dtype for tensor in half.values()} == {torch.float32}
    one, other = (losses(tmp_path / name) for name in ("full", "half"))
    assert one == pytest.approx(other, rel=0.02)


@pytest.mark.slow
def test_compiled_it_takes_the_same_updates(bench, tmp_path):
    plain = trained(bench, tmp_path / "plain")
    assert furthest(plain, trained(bench, tmp_path / "compiled", compile=True)) < 1e-4


@pytest.mark.parametrize("settings", [{"regularizer": "r3f", "slots_per_pass": 2},
                                      {"regularizer": "r4f"}, {"optimizer": "adamax"},
                                      {"optimizer": "sgd"}, {"precision": "bfloat16"}])  # fmt: skip
def test_every_objective_and_optimizer_gives_the_same_weights_again(bench, tmp_path, settings):
    once, again = (trained(bench, tmp_path / n, dropout=0.1, **settings) for n in ("one", "two"))
    assert furthest(once, again) == 0
    assert furthest(once, trained(bench, tmp_path / "plain", dropout=0.1)) > 0


def test_with_averaged_weights_those_are_saved(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", ema=0.5), ALONE)
    trainer.run()
    saved = load_file(tmp_path / "model" / "heads.safetensors")
    averages = {n.removeprefix("heads."): t for n, t in trainer.ema.averages.items()
                if n.startswith("heads.")}  # fmt: skip
    assert saved.keys() == averages.keys()
    assert all(torch.equal(saved[name], averages[name]) for name in saved)
    assert any(not torch.equal(saved[n], p) for n, p in trainer.model.heads.state_dict().items())


# --- Stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("regularizer", ["none", "r4f"])
def test_asked_to_stop_in_a_long_step_it_drops_it_and_goes_on_later(
    bench, tmp_path, monkeypatch, regularizer
):
    names, settings = ("sst2", "squad"), {"regularizer": regularizer, "log_every": 4}
    run(bench.job(tmp_path / "through", *names, **settings), ALONE)
    job = bench.job(tmp_path / "stopped", *names, **settings)
    trainer, compute = Trainer(job, ALONE), Engine.losses

    def stop_in_step_five(engine: Engine, step: int, slots):
        trainer.stop = step == 5
        return compute(engine, step, slots)

    monkeypatch.setattr(Engine, "losses", stop_in_step_five)
    with pytest.raises(Interrupted, match="stopped after step 5; run again"):
        trainer.run()
    monkeypatch.undo()
    run(job, ALONE)
    assert weights(tmp_path / "stopped" / "model") == weights(tmp_path / "through" / "model")
    assert same_on_any_machine(tmp_path / "stopped") == same_on_any_machine(tmp_path / "through")


@pytest.mark.slow
def test_it_goes_on_with_more_workers_and_sharded(bench, tmp_path):
    """What one worker left in a checkpoint, two take up, each with half of the weights."""
    settings = {"checkpoint_every": 4, "dropout": 0.1, "ema": 0.5}
    run(bench.job(tmp_path / "through", "sst2", "squad", **settings), ALONE)
    run_part(bench.job(tmp_path / "moved", "sst2", "squad", **settings))
    job = bench.job(tmp_path / "moved", "sst2", "squad", sharding="fsdp", **settings)
    job.write(tmp_path / "moved" / "job.json")
    launch([tmp_path / "moved" / "job.json"], 2)
    for file in ("model.safetensors", "heads.safetensors"):
        one, other = (load_file(tmp_path / n / "model" / file) for n in ("through", "moved"))
        assert furthest(one, other) < 1e-5
    one, other = losses(tmp_path / "through"), losses(tmp_path / "moved")
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_workers_stop_together_within_seconds(bench, tmp_path, sharding):
    mixture = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=64, steps=60)
    job = bench.job(
        tmp_path, "sst2", "squad", mixture=mixture, sharding=sharding, checkpoint_every=1
    )
    job.write(tmp_path / "job.json")
    env = {**os.environ, **environment(2)}
    child = subprocess.Popen(command([tmp_path / "job.json"], 2), env=env, stderr=subprocess.PIPE,
                             text=True)  # fmt: skip
    while not list((tmp_path / "checkpoints").glob("step-*")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.05)
    asked = time.monotonic()
    child.send_signal(signal.SIGTERM)
    _, message = child.communicate()
    assert time.monotonic() - asked < 20
    assert message.count("run again to resume") == 2 and child.returncode != 0
    assert not (tmp_path / "model").exists()


def same_on_any_machine(output: Path) -> list[dict]:
    """What was reported, without timings."""
    timed = ("time/", "memory/", "train/tokens_per_second")
    return [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines(output)]
