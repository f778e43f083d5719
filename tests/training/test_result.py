"""What a power cut leaves of a run's files: the next run heals it, or says where and what to do."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from power import Disk
from workbench import SMALL, weights

from muppet_dag.errors import Interrupted, MuppetError
from muppet_dag.evaluation.predictions import Predictions
from muppet_dag.training.__main__ import main, run
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job, Prediction
from muppet_dag.training.launch import raise_if_ended
from muppet_dag.training.result import Result
from muppet_dag.training.trainer import Trainer

ALONE = Group(0, 1, torch.device("cpu"))
SETTINGS = {
    "mixture": replace(SMALL, slots_per_step=1, steps=6), "checkpoint_every": 2, "select": "best",
    "validate_every": 2,
}  # fmt: skip
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut short": lambda whole: whole[: len(whole) // 2],
    "zeros": lambda whole: bytes(len(whole)),
    "zeros at the end": lambda whole: whole[: len(whole) // 2] + bytes(len(whole) // 2),
    "not UTF-8": lambda whole: b"\xff\xfe\x80" + whole,
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "nothing in it": lambda _: b"{}",
    "other types": lambda _: b'{"step": "x", "files": 1, "fingerprint": [], "stopped": 0}',
}


@pytest.fixture(scope="module")
def runs(bench, tmp_path_factory) -> tuple[Job, dict[str, Path]]:
    """A job, and copies of its output folder after half of the steps and at the end."""
    folder = tmp_path_factory.mktemp("result")
    job = bench.job(folder / "run", "stsb", **SETTINGS)
    job = predicting(job)
    job.write(folder / "run" / "job.json")
    trainer = Trainer(job, ALONE)
    after = trainer._after
    trainer._after = lambda: (after(), setattr(trainer, "stop", trainer.done == 3))
    with pytest.raises(Interrupted, match="after step 3"):
        trainer.run()
    shutil.copytree(folder / "run", folder / "half")
    run(job, ALONE)
    shutil.copytree(folder / "run", folder / "end")
    return job, {name: folder / name for name in ("half", "end")}


def predicting(job: Job) -> Job:
    return replace(job, predict=Prediction(task="stsb", split="validation", rows=8))


def small_files(state: Path) -> list[str]:
    names = [str(p.relative_to(state)) for p in state.rglob("*") if p.is_file()]
    return sorted(n for n in names if not n.startswith("mixture") and not n.endswith(".lock"))


def cases(runs: tuple[Job, dict[str, Path]]) -> list[tuple[str, str, str]]:
    return [
        (s, name, kind) for s, p in runs[1].items() for name in small_files(p) for kind in DAMAGES
    ]


def heals_or_explains(runs: tuple[Job, dict[str, Path]], state: str, name: str, kind: str) -> None:
    job, states = runs
    output = Path(job.output)
    shutil.rmtree(output)
    shutil.copytree(states[state], output)
    path = output / name
    path.write_bytes(DAMAGES[kind](path.read_bytes()))
    code = main([str(output / "job.json")])  # any other exception is a traceback to the user
    if code == 0:
        assert weights(output / "model") == weights(states["end"] / "model")
        whole = Predictions.read(states["end"] / "predictions.arrow")
        assert Predictions.read(output / "predictions.arrow") == whole
        assert json.loads((output / "run.json").read_text())["steps"] == 6
        for line in (output / "metrics.jsonl").read_text().splitlines():
            json.loads(line)
    else:
        with pytest.raises(MuppetError, match=r"[Dd]elete|write it again") as told:
            raise_if_ended([output / "job.json"])
        assert name in str(told.value)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_of_a_run_heals_or_is_named(runs, data):
    heals_or_explains(runs, *data.draw(st.sampled_from(cases(runs))))


@pytest.mark.slow
def test_every_damage_of_every_file_of_a_run_heals_or_is_named(runs):
    for case in cases(runs):
        try:
            heals_or_explains(runs, *case)
        except BaseException as error:
            raise AssertionError(f"{case}") from error


# --- A power cut ----------------------------------------------------------------------------------


def test_a_power_cut_right_after_success_leaves_a_model_that_works(bench, tmp_path, monkeypatch):
    job = predicting(bench.job(tmp_path, "stsb", **SETTINGS))
    disk = Disk(tmp_path, monkeypatch)
    run(job, ALONE)
    assert {path.name for path in disk.renamed} >= {"model", "predictions.arrow", "step-00000002"}
    assert disk.unsynced == [] and disk.is_synced(tmp_path / "metrics.jsonl")
    result = Result(tmp_path, job.fingerprint)
    assert result.has_model() and result.has_predictions()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_that_is_not_what_was_written_is_not_taken_for_finished(runs, name):
    job, states = runs
    shutil.rmtree(job.output)
    shutil.copytree(states["end"], job.output)
    Path(job.output, "model", name).write_bytes(b"")
    run(job, ALONE)
    whole, again = (
        {p.name: p.read_bytes() for p in Path(folder, "model").iterdir()}
        for folder in (states["end"], job.output)
    )
    assert whole == again


def test_another_jobs_model_is_not_taken_for_this_ones(runs):
    job, states = runs
    shutil.rmtree(job.output)
    shutil.copytree(states["end"], job.output)
    with pytest.raises(MuppetError, match=r"is the model of another job.*Delete"):
        run(replace(job, seed=job.seed + 1), ALONE)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_all_files_have_the_mode_of_the_umask(bench, tmp_path, mask):
    before = os.umask(mask)
    try:
        run(predicting(bench.job(tmp_path / "run", "stsb", **SETTINGS)), ALONE)
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~mask}
    assert {path.suffix for path in files} >= {".safetensors", ".arrow", ".jsonl", ".json"}
