"""How a training process is started, stopped and, once, started again. Needs no torch."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from muppet_dag import disk
from muppet_dag.errors import Interrupted, MuppetError
from muppet_dag.files import read_json
from muppet_dag.training import parent
from muppet_dag.training.report import ENDED

log = logging.getLogger(__name__)

#: A list of places (pages, folders) where the run of a job file beside it can be followed; whoever
#: launches may write it, and what was trained keeps it among its facts.
TRACKED = "tracked.json"
#: Runs job files one after the other and returns when all are done.
Launch = Callable[[Sequence[Path]], None]
#: Around each attempt: what a listener adds to the environment.
Session = Callable[[], AbstractContextManager[Mapping[str, str]]]

STANDALONE = ("--standalone",)
#: How often a training that crashed is started.
ATTEMPTS = 2
_STOPPED = (-signal.SIGTERM, -signal.SIGINT, parent.STOPPED)


def run(
    jobs: Sequence[Path],
    workers: int = 1,
    options: Sequence[str] = STANDALONE,
    *,
    session: Session = nullcontext,
    notify: Callable[[str], None] = log.warning,
) -> None:
    """Start torchrun here and wait for it.

    A training that crashes or hangs is started once more, from its last checkpoint, and ``notify``
    is called with that. If this process is interrupted meanwhile, training stops with a checkpoint
    before the interrupt goes on. Raises Interrupted if training was asked to stop, and MuppetError
    if it fails; run again to resume.
    """
    for attempt in range(1, ATTEMPTS + 1):
        for job in jobs:
            (Path(job).parent / ENDED).unlink(missing_ok=True)
        with session() as variables:
            env = {**os.environ, **environment(workers), **(variables or {})}
            code = _wait(command(jobs, workers, options), env)
        if code == 0:
            return
        raise_if_ended(jobs, code)
        if attempt < ATTEMPTS:
            notify(
                f"training ended with exit code {code} and without a reason: it may have crashed, "
                "hung or run out of memory. Second and last attempt, from its last checkpoint"
            )
    raise MuppetError(
        f"training ended with exit code {code}, {ATTEMPTS} times; its output says more. Run again "
        "to resume"
    )


def command(
    jobs: Sequence[Path], workers: int = 1, options: Sequence[str] = STANDALONE
) -> list[str]:
    """The torchrun command line. ``options`` replace ``--standalone`` on several machines
    (``--nnodes 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT``)."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options]
    return [
        *torchrun, "--nproc-per-node", str(workers), "-m", "muppet_dag.training", *map(str, jobs),
    ]  # fmt: skip


def environment(workers: int = 1) -> dict[str, str]:
    """The environment of the workers: the cores are shared out among them, they end with this
    process, and torchrun gives them the time for a checkpoint when it stops them."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    return {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or threads,
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(round(parent.GRACE_S)),
        **parent.variable(),
    }


def raise_if_ended(jobs: Sequence[Path], code: int = 1) -> None:
    """Raises what ended a training where starting it again is no help: Interrupted if it was asked
    to stop, MuppetError if it cannot go on."""
    for job in jobs:
        if ended := read_json(Path(job).parent / ENDED):
            raise (Interrupted if ended.get("stopped") else MuppetError)(ended.get("why"))
    if code in _STOPPED:
        raise Interrupted("training was asked to stop; run again to resume")
    if problem := disk.lack(Path(jobs[0]).parent, "training"):
        raise problem


def _wait(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run a command and return its exit code. Interrupted, it is stopped first.

    It gets a session of its own: a Ctrl-C in the terminal reaches torchrun once, from here, since
    a second one would make it leave its workers.
    """
    process = subprocess.Popen(command, env=env, start_new_session=True)
    try:
        return process.wait()
    finally:  # an interrupt may be no Exception: Ctrl-C, Dagster's when a run is cancelled
        _stop(process)


def _stop(process: subprocess.Popen) -> None:
    """End torchrun, with a checkpoint if it comes in time; at once if interrupted again."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(parent.GRACE_S + 10)  # after that time torchrun kills them itself
    finally:
        process.kill()
        process.wait()
