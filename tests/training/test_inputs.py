"""Damage in what a job starts from is found before anything is trained on it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.index import FILE
from muppet_dag.store import MANIFEST, Store
from muppet_dag.training import inputs
from muppet_dag.training.__main__ import main
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.report import ENDED

ALONE = Group(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def job(bench, tmp_path_factory) -> Job:
    """A job whose initial model, mixture, tokens and shards are all artefacts of its own."""
    folder = tmp_path_factory.mktemp("inputs")
    made = bench.job(folder / "run", "sst2", "squad")

    def make(path: Path, _key: str) -> Mapping[str, str]:
        shutil.copy(folder / "run" / FILE, path)
        return {}

    drawn = Store(folder / "store").build("mixture/few", make, code_version="1", inputs={})
    task = made.tasks[0]
    copies = {name: folder / name for name in ("init", "tokens", "shards")}
    for source, copy in zip((made.init, task.tokens, task.shards), copies.values(), strict=True):
        shutil.copytree(source, copy)
    first = replace(task, tokens=str(copies["tokens"]), shards=str(copies["shards"]))
    return replace(
        made, init=str(copies["init"]), tasks=(first, *made.tasks[1:]),
        mixture=str(drawn.path), mixture_hash=drawn.version,
    )  # fmt: skip


def own_files(job: Job) -> list[Path]:
    folders = (job.init, job.mixture, job.tasks[0].tokens, job.tasks[0].shards)
    return sorted(
        path for folder in folders for path in Path(folder).rglob("*")
        if path.is_file() and path.name != MANIFEST
    )  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found_and_named(job, data):
    path = data.draw(st.sampled_from(own_files(job)))
    whole = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[at] ^= 1 << bit
    inputs.check(job, ALONE)
    try:
        path.write_bytes(damaged)
        with pytest.raises(MuppetError, match="damaged") as caught:
            inputs.check(job, ALONE)
        assert str(path) in str(caught.value)
    finally:
        path.write_bytes(whole)


def test_workers_share_the_hashing_and_leave_nothing_out(job):
    path = Path(job.mixture, FILE)
    whole = path.read_bytes()
    found = 0
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        for rank in range(3):
            try:
                inputs.check(job, Group(rank, 3, torch.device("cpu")))
            except MuppetError:
                found += 1
    finally:
        path.write_bytes(whole)
    assert found == 1


def test_training_does_not_begin(job, tmp_path):
    """The command ends with one sentence, in the log and for the launcher."""
    path = Path(job.init, "model.safetensors")
    whole = path.read_bytes()
    replace(job, output=str(tmp_path)).write(tmp_path / "job.json")
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert main([str(tmp_path / "job.json")]) == 1
    finally:
        path.write_bytes(whole)
    assert str(path) in (tmp_path / ENDED).read_text()
    assert not list(tmp_path.glob("checkpoints/*")) and not (tmp_path / "metrics.jsonl").exists()


def test_another_version_is_refused(job):
    with pytest.raises(MuppetError, match="the job was written for 0000"):
        inputs.check(replace(job, mixture_hash="0000"), ALONE)
