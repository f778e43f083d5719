"""The watchdog: a worker that hangs ends the job with a message that names it.

A collective cannot be interrupted, and the timeouts of gloo and NCCL do not say who was missing.
So every worker counts the collectives it enters and leaves, a thread tells the others through the
group's store, and when nothing has moved for longer than the timeout it ends the process. The
worker that is behind is the one that has not come to the collective that others wait in.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta

import torch.distributed as dist

#: Exit code of a worker that its watchdog has ended.
HUNG = 75


@dataclass(frozen=True)
class Place:
    """Where a worker is: how many collectives it has entered and left, and the one it is in."""

    count: int = 0
    waits_in: str = ""


class Watchdog:
    """Watches this worker. ``timeout`` is how long it may stay in one place, waiting or not."""

    def __init__(self, store: dist.Store, rank: int, world: int, timeout: timedelta) -> None:
        # A connection of its own: another thread may block in a call on the shared one.
        self._store, self._rank = store.clone(), rank
        self._store.set_timeout(timedelta(seconds=10))
        self._timeout = timeout.total_seconds()
        self._place, self._since = Place(), time.monotonic()
        self._seen = {each: Place() for each in range(world)}
        self._done = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def waiting(self, name: str) -> Iterator[None]:
        """Around a collective. Costs no communication."""
        self._move(name)
        try:
            yield
        finally:
            self._move("")

    def close(self) -> None:
        """Stop watching."""
        self._done.set()

    def _move(self, name: str) -> None:
        self._place, self._since = Place(self._place.count + 1, name), time.monotonic()

    def _watch(self) -> None:
        while not self._done.wait(min(self._timeout / 10, 5)):
            self._exchange()
            if time.monotonic() - self._since > self._timeout:
                print(explain(self._rank, self._seen, self._timeout), file=sys.stderr, flush=True)
                os._exit(HUNG)

    def _exchange(self) -> None:
        """Tell the others where this worker is, and see where they are."""
        self._seen[self._rank] = self._place
        try:
            self._store.set(f"place/{self._rank}", json.dumps(asdict(self._place)))
            places = self._store.multi_get([f"place/{rank}" for rank in self._seen])
        except RuntimeError:
            # Some have not told yet, or the store has gone with the worker that held it, which
            # may have ended for the same reason as this one will: what was seen last still holds.
            return
        self._seen = {rank: Place(**json.loads(each)) for rank, each in enumerate(places)}


def explain(rank: int, places: dict[int, Place], timeout: float) -> str:
    """Who is behind, in words: of the workers that have come least far, those that wait for no
    one; if all of them wait (in a collective that some worker never took part in), all of them."""
    least = min(place.count for place in places.values())
    last = {r: place for r, place in places.items() if place.count == least}
    behind = sorted(r for r, place in last.items() if not place.waits_in) or sorted(last)
    waiting = sorted({p.waits_in for p in places.values() if p.waits_in})
    others = f"; others wait in {', '.join(waiting)}" if waiting else ""
    return (
        f"rank {rank}: no progress for {timeout:g} s. Behind: rank "
        f"{', '.join(map(str, behind))} of {len(places)}{others}. This process ends; look at what "
        "the named rank's machine does (its log, its GPU, its disk), then run again to resume. "
        "If a step or a validation may take this long, raise training.timeout_minutes."
    )
