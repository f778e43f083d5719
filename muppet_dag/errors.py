"""The errors that users meet. Each says where, what was found, what was expected and what to do."""

from __future__ import annotations

from muppet_dag.text import printable


class MuppetError(Exception):
    """Base of all errors that come from data or settings rather than from a bug.

    Messages quote names and values of other people; nothing in them steers a terminal.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class BadData(MuppetError):
    """A dataset does not hold what its catalogue entry promises. Trying again does not help.

    The message names the place as far as it is known: task, split, column and raw row number
    (counted from 0 over the files of the split in order).
    """

    def __init__(
        self,
        problem: str,
        *,
        task: str,
        split: str | None = None,
        column: str | None = None,
        row: int | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.task, self.split, self.column, self.row = task, split, column, row
        place = [f"task {task!r}"]
        place += [f"{k} {v!r}" for k, v in (("split", split), ("column", column)) if v is not None]
        place += [f"row {row}"] if row is not None else []
        text = f"{', '.join(place)}: {problem}"
        text += f"; expected {expected}" if expected else ""
        text += f". {fix}" if fix else ""
        super().__init__(text)


class BadConfig(MuppetError):
    """A recipe, a setting or a name is wrong. The message names the key and what is allowed."""


class SourceError(MuppetError):
    """A dataset or model could not be read from where it lives (network, missing file, gated)."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        self.retry = retry
        super().__init__(message)


class Absent(SourceError):
    """A folder of datasets does not hold this one, which is no fault: it may hold some only."""


class Interrupted(MuppetError):
    """Training was asked to stop; it has written a checkpoint and can be resumed."""
