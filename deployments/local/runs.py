"""Runs whose process is gone: found by their process number, and ended.

A run that was killed (``kill -9``, a power cut) is "started" for ever in Dagster's books: it takes
a place of the queue and a slot of its pools. The daemon asks ``LocalRunLauncher`` every few
seconds; what is started by hand asks ``end_dead_runs`` first.
"""

import logging
import time

import dagster as dg
import psutil
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.launcher.default_run_launcher import DefaultRunLauncher

log = logging.getLogger(__name__)

_UNFINISHED = [
    dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip
#: Seconds by which the clocks of an event and of a process may differ.
_CLOCKS = 2.0
#: Seconds that a run may take from its creation to its process's first word.
_PATIENCE = 600.0


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, which can also tell whether a run's process is alive."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        if (gone := gone_process(self._instance, run)) is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, f"{gone} is gone")


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End the unfinished runs whose process is gone, free their slots, and return their ids.

    A run that was being cancelled is canceled; any other has failed, and can be re-executed.
    """
    dead = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        if (gone := gone_process(instance, run)) is None:
            continue
        message = f"{gone} is gone. Re-execute this run to go on from there."
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message)
        else:
            instance.report_run_failed(run, message)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        log.warning("run %s has ended: %s", run.run_id[:8], message)
        dead.append(run.run_id)
    return dead


def gone_process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """The process that executes a run, in words, if it is no longer there; None while it lives.

    A number that another process has been given since, as after a restart of the machine, counts
    as gone, and so does a process that never gave its number.
    """
    entries = instance.all_logs(run.run_id, dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed(entries):
        if pid := entry.dagster_event.event_specific_data.metadata.get("pid"):
            lives = _lives(int(pid.value), entry.timestamp)
            return None if lives else f"Process {pid.value}, which executed it,"
    record = instance.get_run_record_by_id(run.run_id)
    late = record is not None and time.time() - record.create_timestamp.timestamp() > _PATIENCE
    return "Its process, which never reported," if late else None


def _lives(pid: int, at: float) -> bool:
    """Whether the process that had this number at a time (seconds since 1970) is there still."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= at + _CLOCKS
    except psutil.NoSuchProcess:
        return False
