"""Validation disturbs nothing; the best state is found, kept, and is the model."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from workbench import weights

from muppet_dag.catalogue import TASKS
from muppet_dag.catalogue.task import METRICS
from muppet_dag.errors import BadConfig, Interrupted
from muppet_dag.evaluation.metrics import score as measure
from muppet_dag.evaluation.predictions import Predictions, TaskFiles
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import TrainingSection
from muppet_dag.training.__main__ import run
from muppet_dag.training.group import Group
from muppet_dag.training.launch import run as launch
from muppet_dag.training.trainer import Trainer
from muppet_dag.training.validation import BEST_POSSIBLE, Selection, Validation

ALONE = Group(0, 1, torch.device("cpu"))
NAMES = ("sst2", "squad")
#: What validations say of both tasks, in turn; the first before the first step.
SCRIPT = (0.2, 0.3, 0.6, 0.5, 0.4, 0.1)


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def facts(output: Path) -> dict:
    return json.loads((output / "run.json").read_text())


def validated(output: Path) -> dict[int, dict]:
    return {line["step"]: line for line in lines(output) if "validation/mean" in line}


@pytest.fixture
def scripted(monkeypatch):
    """Validations that say what the script has for their step, every two steps."""

    def follow(trainer: Trainer) -> Trainer:
        def next_values(validation: Validation) -> dict[str, float]:
            value = SCRIPT[trainer.done // 2]
            return {f"{task.name}/{m}": value for task in validation.tasks for m in task.metrics}

        monkeypatch.setattr(Validation, "run", next_values)
        return trainer

    return follow


# --- Scores ---------------------------------------------------------------------------------------


def some(*names: str) -> list[TaskFiles]:
    return [
        TaskFiles(name=name, family="classification", head=HeadSpec(name, "classification", 2),
                  metrics=("accuracy", "f1"), tokens="", shards="")
        for name in names
    ]  # fmt: skip


def selection(**settings) -> Selection:
    chosen = Selection(some("one", "two"), TrainingSection(select="best", **settings))
    chosen.begin({"one/accuracy": 0.5, "one/f1": 0.0, "two/accuracy": 0.9, "two/f1": 0.0})
    return chosen


def test_the_score_is_nought_before_training_and_one_at_best():
    chosen = selection()
    assert chosen.score({"one": 0.5, "two": 0.9}) == 0
    assert chosen.score({"one": BEST_POSSIBLE, "two": BEST_POSSIBLE}) == pytest.approx(1)
    assert chosen.score({"one": 0.75, "two": 0.9}) == pytest.approx(0.25)
    # A tenth of the way that is left counts alike, however little is left.
    assert chosen.score({"one": 0.55, "two": 0.9}) == pytest.approx(
        chosen.score({"one": 0.5, "two": 0.91})
    )


@given(st.floats(-1, 1), st.lists(st.floats(-1, 1), min_size=2, max_size=2))
def test_a_task_that_was_perfect_before_does_not_break_the_score(base, metrics):
    chosen = selection()
    chosen.base = {"one": base, "two": 1.0}
    value = chosen.score({"one": metrics[0], "two": metrics[1]})
    assert -1e4 < value <= 1 + 1e-9


@pytest.mark.parametrize("family", METRICS)
def test_no_metric_is_better_than_the_best_possible(family):
    """Every metric that the catalogue may name: right answers score 1, wrong ones less."""
    right, wrong = {
        "mrc": (["a b", "c"], ["x", "y"]),
        "summarization": (["the cat sat.", "dogs ran"], ["nothing", "else"]),
    }.get(family, ([0, 1, 1, 0], [1, 0, 0, 1]))
    gold = [[text] for text in right] if family == "mrc" else right
    groups = [str(i) for i in range(len(right))]
    best = measure(family, METRICS[family], right, gold, groups)
    assert best == pytest.approx(dict.fromkeys(METRICS[family], BEST_POSSIBLE))
    worse = measure(family, METRICS[family], wrong, gold, groups)
    assert all(worse[name] < best[name] for name in best)
    used = {name for task in TASKS.values() if task.family == family for name in task.metrics}
    assert used <= set(METRICS[family])


def test_patience_counts_validations_without_a_better_score():
    chosen = selection(patience=2)
    ends = []
    for step, value in enumerate((0.6, 0.7, 0.7, 0.8, 0.7, 0.75)):
        metrics = {"one/accuracy": value, "one/f1": 0.0, "two/accuracy": 0.9, "two/f1": 0.0}
        values, best = chosen.judge(step, metrics)
        assert best == (step in (0, 1, 3)) and values["validation/mean"] == (value + 0.9) / 2
        ends.append(chosen.ends)
    assert ends == [False] * 5 + [True]
    assert (chosen.best_step, chosen.best_values["validation/one/accuracy"]) == (3, 0.8)


def test_a_selection_is_restored_as_it_was():
    chosen = selection(patience=3)
    chosen.judge(2, {"one/accuracy": 0.7, "one/f1": 0.0, "two/accuracy": 0.9, "two/f1": 0.0})
    again = Selection(some("one", "two"), TrainingSection(select="best", patience=3))
    again.restore(json.loads(json.dumps(chosen.state())))
    assert vars(again) == vars(chosen)


def test_selecting_needs_something_to_validate_on(bench, tmp_path):
    job = bench.job(tmp_path, "sst2", patience=1)
    (task,) = job.tasks
    tokens = shutil.copytree(task.tokens, tmp_path / "tokens")
    (tokens / "validation.arrow").unlink()
    with pytest.raises(BadConfig, match="need a task with a validation split"):
        Trainer(replace(job, tasks=(replace(task, tokens=str(tokens)),)), ALONE)


# --- Nothing is disturbed -------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"ema": 0.9}, {"regularizer": "r4f"}])
def test_validating_does_not_change_the_weights(bench, tmp_path, settings):
    run(bench.job(tmp_path / "never", *NAMES, **settings), ALONE)
    run(bench.job(tmp_path / "often", *NAMES, validate_every=2, patience=9, **settings), ALONE)
    often = validated(tmp_path / "often")
    assert list(often) == [1, 3, 5, 7, 9]
    assert all("validation/score" in line for line in often.values())
    assert "validation/score" not in validated(tmp_path / "never")[9]
    assert weights(tmp_path / "never" / "model") == weights(tmp_path / "often" / "model")


def test_averaged_weights_are_what_is_validated(bench, tmp_path, monkeypatch):
    trainer = Trainer(bench.job(tmp_path, "sst2", ema=0.5, validate_every=5), ALONE)
    seen, plain = [], Validation.run

    def look(validation: Validation):
        now = dict(trainer.model.named_parameters())
        seen.append({name: tensor.detach().clone() for name, tensor in now.items()})
        return plain(validation)

    monkeypatch.setattr(Validation, "run", look)
    trainer.run()
    averages = trainer.ema.averages
    assert len(seen) == 2 and all(torch.equal(seen[1][name], averages[name]) for name in averages)
    last = load_file(tmp_path / "model" / "heads.safetensors")
    assert all(torch.equal(last[name], seen[1][f"heads.{name}"]) for name in last)


def test_a_validation_gives_every_metric_of_every_task(bench, tmp_path, monkeypatch):
    """Three of four classes right; the answer of one question of two, and half of the other's."""
    rows = {
        "sst2": ([0, 1, 1, 1], [0, 1, 1, 0]),
        "squad": (["in Paris", "two"], [["in Paris"], ["two cats"]]),
    }

    def predict(model, task: TaskFiles, split: str, **_) -> Predictions:
        assert split == "validation"
        return Predictions(["1", "2", "3", "4"][: len(rows[task.name][0])], *rows[task.name])

    monkeypatch.setattr("muppet_dag.training.validation.predict", predict)
    trainer = Trainer(bench.job(tmp_path, *rows), ALONE)
    values = trainer.validation.run()
    expected = {"sst2/accuracy": 0.75, "squad/exact_match": 0.5, "squad/f1": (1 + 2 / 3) / 2}
    assert values == pytest.approx(expected)


# --- The best state -------------------------------------------------------------------------------


def test_a_run_that_gets_no_better_ends_early_at_its_best(bench, tmp_path, scripted, capsys):
    """Best after step 4; two validations later it ends, and the best is the model."""
    job = bench.job(tmp_path / "run", *NAMES, validate_every=2, patience=2, keep=1)
    trainer = Trainer(job, ALONE)
    for number in range(4):
        trainer.update(trainer.loader.read(number))
    kept = {n: t.clone() for n, t in trainer.model.heads.state_dict().items()}
    scripted(Trainer(job, ALONE)).run()
    run_facts = facts(tmp_path / "run")
    assert run_facts["steps"] == 8 and run_facts["stopped_early"] and run_facts["best_step"] == 4
    assert run_facts["best_score"] == pytest.approx((0.6 - 0.2) / 0.8)
    assert run_facts["chosen"]["validation/mean"] == pytest.approx(0.6)
    saved = load_file(tmp_path / "run" / "model" / "heads.safetensors")
    assert saved.keys() == kept.keys()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)
    assert "no better score than after step 4" in capsys.readouterr().err
    assert list(validated(tmp_path / "run")) == [1, 3, 5, 7]
    assert (tmp_path / "run" / "checkpoints" / "step-00000004").is_dir()


@pytest.mark.parametrize(("select", "best"), [("best", 4), ("last", 10)])
def test_a_run_to_the_end_is_its_last_state_or_its_best(bench, tmp_path, scripted, select, best):
    job = bench.job(tmp_path, *NAMES, validate_every=2, patience=9, select=select, keep=1)
    trainer, states = Trainer(job, ALONE), {}
    for number in range(10):
        trainer.update(trainer.loader.read(number))
        states[number + 1] = {n: t.clone() for n, t in trainer.model.heads.state_dict().items()}
    scripted(Trainer(job, ALONE)).run()
    saved = load_file(tmp_path / "model" / "heads.safetensors")
    assert all(torch.equal(saved[name], states[best][name]) for name in saved)
    run_facts = facts(tmp_path)
    assert (
        run_facts["steps"] == 10 and not run_facts["stopped_early"] and run_facts["best_step"] == 4
    )
    assert ("chosen" in run_facts) == (select == "best")


def test_the_best_averaged_weights_are_chosen_where_there_are_any(bench, tmp_path, scripted):
    job = bench.job(tmp_path, *NAMES, validate_every=2, select="best", ema=0.5)
    trainer = Trainer(job, ALONE)
    for number in range(4):
        trainer.update(trainer.loader.read(number))
    averages = {n: t.clone() for n, t in trainer.ema.averages.items() if n.startswith("heads.")}
    scripted(Trainer(job, ALONE)).run()
    saved = load_file(tmp_path / "model" / "heads.safetensors")
    assert all(torch.equal(saved[n.removeprefix("heads.")], t) for n, t in averages.items())


@pytest.mark.parametrize("killed_after", [3, 5, 7])
def test_killed_and_run_again_it_ends_at_the_same_step_with_the_same_model(
    bench, tmp_path, scripted, killed_after
):
    settings = {"validate_every": 2, "patience": 2, "checkpoint_every": 3, "dropout": 0.1}
    scripted(Trainer(bench.job(tmp_path / "through", *NAMES, **settings), ALONE)).run()
    job = bench.job(tmp_path / "killed", *NAMES, **settings)
    trainer = scripted(Trainer(job, ALONE))
    trainer._before()
    for number in range(killed_after):
        trainer.update(trainer.loader.read(number))
        trainer._after()
    scripted(Trainer(job, ALONE)).run()
    assert facts(tmp_path / "killed") == facts(tmp_path / "through")
    assert validated(tmp_path / "killed") == validated(tmp_path / "through")
    assert weights(tmp_path / "killed" / "model") == weights(tmp_path / "through" / "model")


# --- Asked to stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 4, 10])
def test_asked_to_stop_while_it_validates_it_does_so_at_once_and_validates_later(
    bench, tmp_path, monkeypatch, at
):
    settings = {"validate_every": 4, "patience": 9}
    run(bench.job(tmp_path / "through", *NAMES, **settings), ALONE)
    job = bench.job(tmp_path / "stopped", *NAMES, **settings)
    trainer, go_on, batches = Trainer(job, ALONE), Validation._go_on, []

    def stop_in_the_middle(validation: Validation) -> None:
        if trainer.done == at:
            batches.append(at)
            trainer.stop = len(batches) > 1
        go_on(validation)

    monkeypatch.setattr(Validation, "_go_on", stop_in_the_middle)
    with pytest.raises(Interrupted, match=f"stopped after step {at};"):
        trainer.run()
    monkeypatch.undo()
    assert len(batches) == 2 and at - 1 not in validated(tmp_path / "stopped")
    run(job, ALONE)
    assert facts(tmp_path / "stopped") == facts(tmp_path / "through")
    assert validated(tmp_path / "stopped") == validated(tmp_path / "through")
    assert weights(tmp_path / "stopped" / "model") == weights(tmp_path / "through" / "model")


# --- Workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sharding", [pytest.param("none", marks=pytest.mark.slow), "fsdp"])
def test_workers_that_share_the_tasks_say_what_one_alone_does(bench, tmp_path, sharding):
    outcomes = []
    for workers in (1, 2):
        output = tmp_path / str(workers)
        job = bench.job(output, "sst2", "squad", "stsb", validate_every=5, select="best",
                        validation_rows=24, dropout=0.0, sharding=sharding, ema=0.5)  # fmt: skip
        job.write(output / "job.json")
        launch([output / "job.json"], workers)
        outcomes.append((validated(output), facts(output)))
    (alone, one), (together, other) = outcomes
    for file in ("model.safetensors", "heads.safetensors"):  # the best averages
        first, second = (load_file(tmp_path / n / "model" / file) for n in ("1", "2"))
        assert first.keys() == second.keys()
        for name in first:
            torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-4)
    assert alone.keys() == together.keys() == {4, 9}
    for step, values in alone.items():
        assert values == pytest.approx(together[step], abs=1e-3)
    assert one["before"] == pytest.approx(other["before"], abs=1e-3)
    assert one["best_step"] == other["best_step"]
