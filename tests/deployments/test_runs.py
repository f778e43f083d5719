"""Runs that were killed are ended, their slots are free, and training elsewhere waits its turn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.instance.ref import InstanceRef
from dagster._core.launcher import WorkerStatus

from deployments.local.runs import LocalRunLauncher, _lives, end_dead_runs, gone_process

#: Executes an asset that waits for a file, in a pool of one slot, as ``make demo`` does.
WAITING = """
import sys, time
from pathlib import Path
import dagster as dg
from dagster._core.instance.ref import InstanceRef

@dg.asset(pool="gpu")
def waiting():
    Path(sys.argv[1], "started").touch()
    while not Path(sys.argv[1], "go").exists():
        time.sleep(0.05)

with dg.DagsterInstance.from_ref(InstanceRef.from_dir(sys.argv[1])) as instance:
    sys.exit(not dg.materialize([waiting], instance=instance, raise_on_error=False).success)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Dagster home of a user's own, where steps hold the slots; in ours runs do."""
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nconcurrency: {pools: {granularity: op, default_limit: 1}}\n"
    )
    return tmp_path


def start(home: Path) -> subprocess.Popen:
    (home / "started").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, "-c", WAITING, str(home)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (home / "started").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.poll() is None, process.stderr.read().decode()
    return process


def test_what_a_killed_run_held_is_free_for_the_next(home: Path) -> None:
    first = start(home)
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as at:
        launcher = LocalRunLauncher()
        launcher.register_instance(at)
        (run,) = at.get_runs()
        assert end_dead_runs(at) == [] and gone_process(at, run) is None
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert launcher.check_run_worker_health(run).status == WorkerStatus.NOT_FOUND
        assert end_dead_runs(at) == [run.run_id]
        assert at.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
        assert end_dead_runs(at) == [], "once"
        second = start(home)  # takes the slot
        (home / "go").touch()
        assert second.wait(timeout=60) == 0


def test_a_number_that_another_process_has_by_now_counts_as_gone() -> None:
    assert _lives(os.getpid(), time.time())
    assert not _lives(os.getpid(), psutil.boot_time() - 3600), "this process is younger than that"
