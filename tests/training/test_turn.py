"""One training at a time in a folder; who waits for it says for whom, and is not taken for hung."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
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


@pytest.mark.slow
def test_workers_wait_for_another_process_longer_than_for_each_other(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        codes = gang(2, take_turns, str(tmp_path), patience=timedelta(seconds=PATIENCE_S))
    finally:
        holder.kill()
        holder.wait()
    assert codes == [0, 0]
    told = (tmp_path / "told-0").read_text()
    assert f"process {holder.pid} on " in told and f"trains in {tmp_path} since" in told
    assert not (tmp_path / "told-1").exists()
