"""What kills leave behind is cleared away, and nothing that is alive or somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muppet_dag.store import Store, remains

#: Builds ``models/a`` until it is killed; argv: home, parameter. Says when it is in the middle.
BUILDER = """
import sys, time
from pathlib import Path
from muppet_dag.store import Store

store = Store(Path(sys.argv[1]))

def make(folder, key):
    (folder / "half.bin").write_text("x")
    (store.workspace(key, "models/a") / "checkpoint").write_text("x")
    print(key, flush=True)
    time.sleep(60)

store.build("models/a", make, code_version="1", inputs={}, parameters={"of": sys.argv[2]})
"""
WEEK_S = 7 * 24 * 3600


class Building:
    """A build in another process, in the middle of it."""

    def __init__(self, home: Path, of: str) -> None:
        command = [sys.executable, "-c", BUILDER, str(home), of]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.key = self.process.stdout.readline().strip()

    def kill(self) -> str:
        self.process.kill()
        self.process.communicate()
        return self.key


def build(home: Path, of: str = "") -> None:
    Store(home).build(
        "models/a", lambda *_: {}, code_version="1", inputs={}, parameters={"of": of}
    )  # fmt: skip


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def older(seconds: float, *paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - seconds,) * 2)


def test_the_leavings_of_a_killed_build_go_and_a_live_ones_stay(tmp_path: Path) -> None:
    dead, alive = Building(tmp_path, "dead").kill(), Building(tmp_path, "alive")
    try:
        remains.clear(tmp_path)
        assert names(tmp_path / ".building") == {alive.key}
        assert names(tmp_path / ".locks") == {f"{alive.key}.lock"}
        assert names(tmp_path / "work") == {dead, alive.key}  # both can go on
        assert names(tmp_path / ".building" / alive.key) == {"half.bin"}
    finally:
        alive.kill()
    remains.clear(tmp_path)
    assert names(tmp_path / ".building") == names(tmp_path / ".locks") == set()


def test_a_process_clears_when_it_first_builds(tmp_path: Path) -> None:
    key = Building(tmp_path, "dead").kill()
    build(tmp_path, "other")
    assert key not in names(tmp_path / ".building")


@pytest.mark.parametrize(
    ("made_days_ago", "touched_days_ago", "stays"),
    [(None, 100, True), (6, 30, True), (8, 30, False), (30, 8, True), (8, 7.9, True)],
)
def test_checkpoints_go_when_the_artefact_was_made_otherwise_a_week_ago(
    tmp_path: Path, made_days_ago: float | None, touched_days_ago: float, stays: bool
) -> None:
    key = Building(tmp_path, "dead").kill()
    work = tmp_path / "work" / key
    if made_days_ago is not None:
        build(tmp_path, "other")
        older(made_days_ago * 24 * 3600, tmp_path / "models/a/current")
    older(touched_days_ago * 24 * 3600, *work.rglob("*"), work)
    remains.clear(tmp_path)
    assert work.exists() == stays


def test_checkpoints_of_what_is_made_go(tmp_path: Path) -> None:
    key = Building(tmp_path, "dead").kill()
    build(tmp_path, "dead")
    (tmp_path / "work" / key).mkdir(exist_ok=True)  # a kill before the last line of a build
    remains.own(tmp_path / "work" / key, "models/a")
    remains.clear(tmp_path)
    assert names(tmp_path / "work") == set()


def test_only_what_is_ours_is_touched(tmp_path: Path) -> None:
    build(tmp_path)
    mine = [tmp_path / "work" / "notes" / "a.txt", tmp_path / "work" / "b.txt",
            tmp_path / "models/a/.hidden", tmp_path / "thesis.tex"]  # fmt: skip
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (tmp_path / "work" / "notes" / remains.OWNER).write_text("{")
    older(100 * WEEK_S, *mine)
    remains.clear(tmp_path)
    remains.clear_temporary(tmp_path / "models/a")
    assert all(path.read_text() == "mine" for path in mine)


def test_temporary_files_of_pointers_go_when_nobody_can_be_writing_them(tmp_path: Path) -> None:
    build(tmp_path)
    folder = tmp_path / "models/a"
    key = next(iter(names(folder / "made")))
    dead = [folder / ".current.4711", folder / ".current.x7.tmp", folder / f"made/.{key}.y.tmp"]
    alive = folder / ".current.z9.tmp"
    for path in (*dead, alive):
        path.write_text("{")
    older(3700, *dead)
    build(tmp_path)
    assert not any(path.exists() for path in dead) and alive.exists()


def test_a_build_that_fails_gives_back_the_room_it_took(tmp_path: Path) -> None:
    def fails(folder: Path, _key: str) -> dict:
        (folder / "large.bin").write_bytes(bytes(10_000))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Store(tmp_path).build("models/a", fails, code_version="1", inputs={})
    assert names(tmp_path / ".building") == set()


def test_old_work_that_does_not_say_whose_it_is_stays(tmp_path: Path) -> None:
    build(tmp_path)
    work = tmp_path / "work" / ("0" * 32)
    work.mkdir(parents=True)
    remains.clear(tmp_path)
    assert work.exists()
    remains.own(work, "models/a")
    assert json.loads((work / remains.OWNER).read_text()) == {"name": "models/a"}
