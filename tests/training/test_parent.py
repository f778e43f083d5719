"""A worker ends with the processes that started it, however they ended; real ones, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from muppet_dag.training import parent

#: Writes a line when it is ready and one for each SIGTERM; "deaf" goes on after that.
WORKER = """
import signal, sys, time
from pathlib import Path
from muppet_dag.training import parent
log = open(sys.argv[1], "a", buffering=1)
def asked(*_):
    log.write("asked\\n")
    if sys.argv[2] != "deaf":
        sys.exit(143)
signal.signal(signal.SIGTERM, asked)
parent._EVERY_S = 0.1
parent.watch(grace_s=1)
log.write("ready\\n")
time.sleep(300)
"""
#: Starts the worker and waits, as a launcher or torchrun does; prints the worker's number.
STARTER = """
import os, subprocess, sys
from muppet_dag.training import parent
env = {**os.environ, **(parent.variable() if sys.argv[1] == "launcher" else {})}
if sys.argv[1] == "torchrun":
    env["TORCHELASTIC_RUN_ID"] = "1"
child = subprocess.Popen([sys.executable, "-c", *sys.argv[2:]], env=env, start_new_session=True)
print(child.pid, flush=True)
child.wait()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str, str], tuple[subprocess.Popen, int]]]:
    """Starts a starter of a kind with a worker of a kind; returns it and the worker's number."""
    workers: list[int] = []

    def start(kind: str, worker: str = "polite") -> tuple[subprocess.Popen, int]:
        log = tmp_path / "log"
        command = [sys.executable, "-c", STARTER, kind, WORKER, str(log), worker]
        starter = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        workers.append(int(starter.stdout.readline()))
        while not log.exists() or "ready" not in log.read_text():
            time.sleep(0.01)
        return starter, workers[-1]

    yield start
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ends(pid: int, within_s: float) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if not parent._birth(pid):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("kind", ["launcher", "torchrun"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_worker_is_asked_to_stop_when_its_starter_is_gone(started, tmp_path, kind, number):
    starter, worker = started(kind)
    starter.send_signal(number)  # not waited for: a zombie is gone, too
    assert ends(worker, 10)
    assert (tmp_path / "log").read_text() == "ready\nasked\n"
    starter.wait()


def test_a_worker_that_does_not_listen_is_ended(started, tmp_path):
    starter, worker = started("launcher", "deaf")
    starter.kill()
    assert ends(worker, 10)
    assert (tmp_path / "log").read_text() == "ready\nasked\n"
    starter.wait()


def test_a_run_by_hand_outlives_its_shell(started, tmp_path):
    starter, worker = started("shell")
    starter.kill()
    starter.wait()
    assert not ends(worker, 1)


def test_a_number_that_is_used_again_is_not_the_launcher(monkeypatch):
    monkeypatch.setenv(parent.VARIABLE, parent.variable()[parent.VARIABLE])
    assert parent.gone() is None
    monkeypatch.setenv(parent.VARIABLE, f"{os.getpid()} 1")
    assert "which launched" in parent.gone()
