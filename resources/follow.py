"""Log a growing file of metrics to a tracked run, while a trainer in another process writes it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resources.tracker import Run

log = logging.getLogger(__name__)


@contextmanager
def follow(path: str | Path, run: Run, *, every: float = 0.5) -> Iterator[None]:
    """Log the lines of a JSON-lines file to the run while it is being written.

    A line is ``{"step": 12, "train/loss": 0.9, …}``; the file may not exist yet. It is looked at
    each ``every`` seconds from a daemon thread, and once more at the end.
    """
    tail, stop = _Tail(Path(path), run), threading.Event()
    thread = threading.Thread(target=tail.watch, args=(stop, every), daemon=True, name="follow")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)  # a tracker that hangs must not hold the run


class _Tail:
    """What was read of a growing file: the bytes so far, the last line, the last step."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path, self.run = path, run
        self.offset, self.line = 0, b""
        self.step, self.names = -1, set()

    def watch(self, stop: threading.Event, every: float) -> None:
        last = False
        while not last:
            last = stop.wait(every)  # set: read what is left, once
            try:
                self.read()
            except Exception as problem:
                log.debug("cannot read %s: %s", self.path, problem)

    def read(self) -> None:
        """Log every complete line that is new."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            # A trainer that resumes rewrites the file up to its checkpoint. Size and inode cannot
            # tell once it has grown again; that the last line is no longer in its place can.
            file.seek(self.offset - len(self.line))
            if file.read(len(self.line)) != self.line:
                self.offset, self.line = 0, b""
                file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # half-written: read it again when it is whole
                self.offset, self.line = self.offset + len(line), line
                self.take(line)

    def take(self, line: bytes) -> None:
        """Log one line, less what was logged of its step before."""
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
        except (ValueError, OverflowError, TypeError, KeyError, AttributeError):
            return  # not a record
        if step > self.step:
            self.step, self.names = step, set()
        new = {name: v for name, v in values.items() if name not in self.names}
        if step == self.step and new:
            self.names |= set(new)
            self.run.log(step, new)
