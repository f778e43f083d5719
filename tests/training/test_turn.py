"""One training at a time in a folder; who waits for it says for whom, and is not taken for hung."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from gang import gang

from muppet_dag.training.group import Group
from muppet_dag.training.turn import LOCK, turn

PATIENCE_S = 2.0
#: Holds the lock for twice that time once somebody is told of it.
HOLDER = f"""
import sys, time
from pathlib import Path
from muppet_dag.files import lock
folder = Path(sys.argv[1])
with lock(folder / "{LOCK}", f"trains in {{folder}}"):
    print("held", flush=True)
    while not (folder / "told-0").exists():
        time.sleep(0.02)
    time.sleep({2 * PATIENCE_S})
    (folder / "left").touch()
"""


def take_turns(group: Group, folder: str) -> None:
    with turn(Path(folder), group, Path(folder, f"told-{group.rank}").write_text):
        assert Path(folder, "left").exists()
        group.barrier()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def says_for_whom(holder: subprocess.Popen, folder: Path) -> bool:
    told = (folder / "told-0").read_text()
    return f"process {holder.pid} on " in told and f"trains in {folder} since" in told


def test_a_second_training_waits_for_the_first_and_says_so(holder, tmp_path):
    take_turns(Group(0, 1, torch.device("cpu")), str(tmp_path))
    assert says_for_whom(holder, tmp_path)


@pytest.mark.slow
def test_workers_wait_for_another_process_longer_than_for_each_other(holder, tmp_path):
    codes = gang(2, take_turns, str(tmp_path), patience=timedelta(seconds=PATIENCE_S))
    assert codes == [0, 0]
    assert says_for_whom(holder, tmp_path) and not (tmp_path / "told-1").exists()
