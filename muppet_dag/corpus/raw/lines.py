"""Lines of a text file, decoded one by one, so that what is wrong has a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from muppet_dag.errors import SourceError

T = TypeVar("T")

#: The longest line, in bytes. Beyond it something is wrong: a quote that is not closed, say.
LONGEST = 256_000_000
#: Rows, and bytes of them, that are in memory at a time.
ROWS, SIZE = 8_192, 16_000_000


class Line(NamedTuple):
    """A line with its end, its number (from 1) and its size in bytes."""

    number: int
    text: str
    size: int


def lines(path: Path) -> Iterator[Line]:
    """The lines of a UTF-8 file, with or without a byte order mark. SourceError."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(partial(file.readline, LONGEST), b""), 1):
                if len(raw) == LONGEST and not raw.endswith(b"\n"):
                    raise SourceError(f"{path}: line {number} is longer than {LONGEST:,} bytes")
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                yield Line(number, text, len(raw))
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: cannot be read as UTF-8 (line {number}: {error})") from error
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error


def bounded(rows: Iterable[tuple[Line, T]]) -> Iterator[list[tuple[Line, T]]]:
    """Rows in lists that memory holds, with the last line of each row."""
    part: list[tuple[Line, T]] = []
    size = 0
    for row in rows:
        part.append(row)
        size += row[0].size
        if len(part) == ROWS or size >= SIZE:
            yield part
            part, size = [], 0
    if part:
        yield part
