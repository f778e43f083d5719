"""Killed with SIGKILL anywhere on the way, run again: the same artefacts as without the kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dag import TASKS

from muppet_dag import samples
from muppet_dag.store import Store
from muppet_dag.training import parent

DAG = Path(__file__).parents[1] / "dag.py"


def start(home: Path, source: Path) -> subprocess.Popen:
    command = [sys.executable, str(DAG), str(home), str(source), str(home.parent / "recipes")]
    env = {**os.environ, **parent.variable()}  # ends with this process
    return subprocess.Popen(command, env=env, start_new_session=True, stderr=subprocess.DEVNULL)


def versions(home: Path) -> dict[str, str]:
    store = Store(home)
    names = [str(p.parent.relative_to(home)) for p in home.rglob("current") if p.is_file()]
    return {name: store.require(name).version for name in names}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_dag_killed_again_and_again_gives_the_same_artefacts(tmp_path: Path) -> None:
    source = samples.make(tmp_path / "source", train_rows=64, evaluation_rows=24, tasks=TASKS)
    assert start(tmp_path / "straight" / "home", source).wait() == 0
    home, chance = tmp_path / "killed" / "home", random.Random(7)
    for _ in range(10):
        process = start(home, source)
        try:
            assert process.wait(timeout=chance.uniform(3, 35)) == 0
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    else:
        assert start(home, source).wait() == 0
    assert versions(home) == versions(tmp_path / "straight" / "home")
