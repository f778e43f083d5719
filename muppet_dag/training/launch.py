"""How a training process is started. Needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from muppet_dag.errors import Interrupted, MuppetError
from muppet_dag.training.report import FACTS

#: A list of places (pages, folders) where the run of a job file beside it can be followed; whoever
#: launches may write it, and what was trained keeps it among its facts.
TRACKED = "tracked.json"
#: Runs job files one after the other and returns when all are done.
Launch = Callable[[Sequence[Path]], None]


def command(
    jobs: Sequence[Path], workers: int = 1, options: Sequence[str] = ("--standalone",)
) -> list[str]:
    """The torchrun command line. ``options`` replace ``--standalone`` on several machines
    (``--nnodes 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT``)."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options]
    return [
        *torchrun, "--nproc-per-node", str(workers), "-m", "muppet_dag.training", *map(str, jobs),
    ]  # fmt: skip


def environment(workers: int = 1) -> dict[str, str]:
    """The environment of the workers: the cores are shared out among them."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}


def raise_if_stopped(jobs: Sequence[Path]) -> None:
    """Raises Interrupted if training ended because it was asked to, which nobody should retry."""
    for job in jobs:
        path = Path(job).parent / FACTS
        if path.is_file() and json.loads(path.read_text()).get("stopped"):
            raise Interrupted(
                f"training was asked to stop ({path.parent}); its state is kept, run again to "
                "go on from there"
            )


def run(jobs: Sequence[Path], workers: int = 1) -> None:
    """Start torchrun here and wait. Raises MuppetError if it fails; run again to resume."""
    done = subprocess.run(command(jobs, workers), env={**os.environ, **environment(workers)})
    if done.returncode:
        raise_if_stopped(jobs)
        raise MuppetError(f"training ended with exit code {done.returncode}; run again to resume")
