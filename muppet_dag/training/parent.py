"""Training ends with what started it: a worker that is left behind stops, with a checkpoint.

Two processes count: torchrun, this worker's parent, and the process that launched torchrun, which
names itself in the environment. Nobody else is there to stop workers when one of them is killed:
torchrun starts each in a session of its own, so that no signal to a process group reaches them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

#: The process that launched this training, and when that started: "4711 8812345".
VARIABLE = "MUPPET_LAUNCHER"
#: Exit code of a run that was asked to stop: what a process that SIGTERM ended would show.
STOPPED = 143
#: Seconds in which a checkpoint must be written once a run was asked to stop.
GRACE_S = 60.0
_EVERY_S = 1.0
_TORCHRUN = "TORCHELASTIC_RUN_ID"
# Asked for when the package is imported: later, the parent may be gone already.
_PARENT = os.getppid()


def variable() -> dict[str, str]:
    """What a launcher adds to the environment of the training it starts."""
    return {VARIABLE: f"{os.getpid()} {_birth(os.getpid())}"}


def watch(grace_s: float = GRACE_S) -> None:
    """From now on end this process when what started it is gone: as by SIGTERM, and hard if that
    has no effect within ``grace_s`` seconds. A process that was started by hand is not watched."""
    if VARIABLE in os.environ or _TORCHRUN in os.environ:
        threading.Thread(target=_watch, args=(grace_s,), name="parent", daemon=True).start()


def gone() -> str | None:
    """Which of the processes that started this one is gone, in words."""
    if _TORCHRUN in os.environ and os.getppid() != _PARENT:
        return f"torchrun (process {_PARENT})"
    pid, _, birth = os.environ.get(VARIABLE, "").partition(" ")
    if pid and _birth(int(pid)) != birth:
        return f"process {pid}, which launched this training,"
    return None


def _watch(grace_s: float) -> None:
    while not (who := gone()):
        time.sleep(_EVERY_S)
    with suppress(OSError):  # the terminal, too, may be gone
        print(f"{who} is gone: this worker stops", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os._exit(STOPPED)


def _birth(pid: int) -> str:
    """When a process started, in ticks since the machine did: numbers of processes are used again.

    Empty if it is gone, also if only its parent has not noticed. Without /proc, "?" if it is there.
    """
    if not Path("/proc/self/stat").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except PermissionError:  # it is there, and another user's
            pass
        return "?"
    try:
        # The name comes first, in brackets, and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
