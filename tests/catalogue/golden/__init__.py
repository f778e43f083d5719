"""Golden rows: for every task invented raw rows, and exactly what they must become.

``GOLDEN`` maps a task to pairs of a raw row (columns left out are null) and the columns of its
normalised row that are not null, or the reason why it is dropped.
"""

from __future__ import annotations

from typing import Any

from golden import classification, commonsense, held_out, mrc, summarization

Row = dict[str, Any]

GOLDEN: dict[str, list[tuple[Row, Row | str]]] = {
    **classification.GOLDEN,
    **commonsense.GOLDEN,
    **mrc.GOLDEN,
    **summarization.GOLDEN,
    **held_out.GOLDEN,
}
