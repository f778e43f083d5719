"""A plain table on standard output, also where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence


def show(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under headings, the first column to the left and the others to the right."""
    lines = [[str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        first, *rest = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join([first, *rest]))
