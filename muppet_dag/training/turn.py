"""One training at a time in a folder: who comes second waits, and goes on from what is there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from muppet_dag import files
from muppet_dag.training.group import Group

LOCK = "training.lock"
_EVERY_S = 1.0


@contextmanager
def turn(output: Path, group: Group, notify: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, no other process trains in ``output``; ``notify`` is called with who is
    waited for. Rank 0 holds the lock for all, until its process ends."""
    output = Path(output)
    if group.rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        with files.lock(output / LOCK, f"trains in {output}", notify, lambda: _meet(group)):
            group.any(True)
            yield
    else:
        while not group.any(False):
            time.sleep(_EVERY_S)
        yield


def _meet(group: Group) -> None:
    """Not yet: the others wait in short collectives, so that a long wait is no hang to them."""
    group.any(False)
    time.sleep(_EVERY_S)
