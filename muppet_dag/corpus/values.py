"""Values that no row may have: a label outside the classes, a span that is not in its text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muppet_dag.catalogue import Task
from muppet_dag.corpus.explain import first_line, unreadable
from muppet_dag.errors import BadData


@dataclass(frozen=True)
class _Rows:
    """Rows of one split under check, and their raw row numbers."""

    task: Task
    role: str
    batch: pa.RecordBatch
    numbers: pa.Array

    def require(self, good: pa.Array, column: str, expected: str, shown: str = "") -> None:
        """Refuse the first row that is not good (null counts as not good), with the value that
        stands in ``column``, or in ``shown``."""
        bad = pc.index(pc.fill_null(good, False), False).as_py()
        if bad < 0:
            return
        value, row_id = (self.batch.column(name)[bad].as_py() for name in (shown or column, "id"))
        raise BadData(
            f"value {str(value)[:200]!r} of the row with id {row_id!r}",
            task=self.task.name, split=self.role, column=column,
            row=self.numbers[bad].as_py(), expected=expected,
            fix=f"Check {self.task.dataset.repository} or the entry's {column}= expression.",
        )  # fmt: skip


def check_values(task: Task, role: str, batch: pa.RecordBatch, numbers: pa.Array) -> None:
    """Refuse the first row whose label, score, candidates or span is impossible."""
    rows, label = _Rows(task, role, batch, numbers), batch.column("label")
    whole = batch.column("bad_label").is_null()
    rows.require(whole, "label", "a whole number", shown="bad_label")
    if task.classes:
        good = pc.and_(pc.greater_equal(label, 0), pc.less(label, len(task.classes)))
        rows.require(good, "label", f"0 to {len(task.classes) - 1} {task.classes}")
    elif task.family == "commonsense":
        count = pc.list_value_length(batch.column("choices"))
        rows.require(pc.greater_equal(count, 2), "choices", "two or more candidates")
        good = pc.and_(pc.greater_equal(label, 0), pc.less(label, count))
        rows.require(good, "label", "the index of one of the candidates")
    elif task.family == "mrc":
        expected = "every answer to stand in the text at its start (in characters)"
        rows.require(batch.column("bad_span").is_null(), "answers", expected)
    elif task.score_range:
        low, high = task.score_range
        score = batch.column("score")
        good = pc.and_(pc.greater_equal(score, low), pc.less_equal(score, high))
        rows.require(good, "score", f"a number from {low} to {high}")


def check_classes(task: Task, role: str, paths: Sequence[Path]) -> None:
    """Refuse a dataset whose ClassLabel names differ from the entry's, where it has any.

    A reordered class list keeps all integers valid and makes every label wrong. An entry may use
    clearer names than the dataset's, as long as there are as many.
    """
    column = task.columns.get("label", "").strip('"')
    for path in paths:
        names = _class_names(task, role, path, column)
        if not task.classes or not names or names == list(task.classes):
            continue
        if len(names) != len(task.classes) or sorted(names) == sorted(task.classes):
            raise BadData(
                f"the dataset has the {len(names)} classes {names}",
                task=task.name, split=role, column=column,
                expected=f"the {len(task.classes)} classes {list(task.classes)}, in this order",
                fix="Change the entry's classes= and raise its version.",
            )  # fmt: skip


def _class_names(task: Task, role: str, path: Path, column: str) -> list[str]:
    """The ClassLabel names that ``datasets`` wrote into a parquet file, if any."""
    if path.suffix != ".parquet":
        return []
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise unreadable(task, role, f"{path.name}: {first_line(error)}") from error
    info = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {})
    return info.get("features", {}).get(column, {}).get("names") or []
