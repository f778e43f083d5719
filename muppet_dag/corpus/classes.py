"""Whether a label means the class it is taken for: the dataset's own names, and where it counts
from. Both kinds of mistake leave every number valid and every label wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from muppet_dag.catalogue import Task
from muppet_dag.corpus import labels
from muppet_dag.corpus.explain import first_line, unreadable
from muppet_dag.corpus.expressions import NotOneExpression, columns, typed
from muppet_dag.corpus.query import UNLABELLED
from muppet_dag.errors import BadData

#: How likely it may at most be by chance that no first candidate is right, for it to be refused.
UNLIKELY = 0.05


# --- The dataset's own names ----------------------------------------------------------------------


def check_classes(task: Task, role: str, paths: Sequence[Path]) -> bool:
    """Refuse a dataset whose ClassLabel names differ from the entry's, where it has any.

    The entry's expression is tried on every number of the ClassLabel that it reads, so it does not
    matter how it is written. Names are compared without regard to case, white space and
    underscores. An entry may use clearer names than the dataset's, as long as there are as many.
    Returns whether the names vouch for the numbers.
    """
    vouched = False
    for path in paths if task.classes else ():
        for place, names in _class_labels(task, role, path):
            made = _tried(task, path, place, len(names))
            if made is None:
                continue
            same = made == list(range(len(names)))
            if _contradict(names, made, task.classes) or (same and len(made) != len(task.classes)):
                raise BadData(
                    f"the dataset has the {len(names)} classes {names}"
                    + ("" if same else f", of which label= makes the numbers {made}"),
                    task=task.name, split=role, column=".".join(place),
                    expected=f"the {len(task.classes)} classes {list(task.classes)}, in this order",
                    fix="Put the entry's classes= into the dataset's order, or change label=.",
                )  # fmt: skip
            vouched = vouched or same
    return vouched


def _contradict(names: Sequence[str], made: Sequence[int | None], classes: Sequence[str]) -> bool:
    """Whether a number stands for one class by its name and for another by its place."""
    same = labels.folded if len({*map(labels.folded, classes)}) == len(classes) else str
    places = {same(name): place for place, name in enumerate(classes)}
    pairs = zip((places.get(same(name)) for name in names), made, strict=True)
    return any(None not in pair and pair[1] != -1 and pair[0] != pair[1] for pair in pairs)


def _class_labels(task: Task, role: str, path: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every ClassLabel that the label expression reads: the path of its column, and its names, as
    ``datasets`` wrote them into a parquet file."""
    if path.suffix.lower() != ".parquet":
        return
    try:
        metadata = pq.read_schema(path).metadata or {}
        read = columns(task.columns["label"])
    except (pa.ArrowException, OSError) as error:
        raise unreadable(task, role, f"{path.name}: {first_line(error)}") from error
    except NotOneExpression:
        return  # which the query says
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return
    for place, names in _leaves(features):
        lower = tuple(name.lower() for name in place)
        if any(path[: len(lower)] == lower or path == lower[: len(path)] for path in read):
            yield place, names


def _leaves(features: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list]]:
    for name, feature in features.items() if isinstance(features, Mapping) else ():
        if not isinstance(feature, Mapping):
            continue
        if feature.get("_type") == "ClassLabel" and feature.get("names"):
            yield (*above, name), feature["names"]
        elif "_type" not in feature:
            yield from _leaves(feature, (*above, name))


def _tried(task: Task, path: Path, place: tuple[str, ...], count: int) -> list[int | None] | None:
    """What the entry makes of every number of a ClassLabel, where all other columns are null."""
    import duckdb

    schema = pq.read_schema(path)
    rows = pa.table([_filled(f, place, count) for f in schema], schema.remove_metadata())
    raw = f"SELECT {typed(task, 'label')} AS _raw_label FROM raw"
    with duckdb.connect(config={"threads": 1}) as con:
        con.register("raw", rows)
        try:
            return [
                number
                for (number,) in con.execute(f"SELECT {labels.index(task)} FROM ({raw})").fetchall()
            ]
        except duckdb.Error:
            return None  # which the query says


def _filled(column: pa.Field, place: tuple[str, ...], count: int) -> pa.Array:
    """``0, 1, …`` in the column at ``place``, inside as many structs, and nulls elsewhere."""
    if not place or column.name != place[0]:
        return pa.nulls(count, column.type)
    if pa.types.is_struct(column.type):
        inner = [_filled(field, place[1:], count) for field in column.type]
        return pa.StructArray.from_arrays(inner, fields=list(column.type))
    return pa.array(range(count)).cast(column.type)


# --- Where numbers count from ---------------------------------------------------------------------


@dataclass
class _Seen:
    """The labels of one split."""

    unlabelled: int = 0
    rows: int = 0
    labels: set[int] = field(default_factory=set)
    last: bool = False
    numbers: bool = False
    #: Logarithm of the chance that no first candidate is right, if the right one is any.
    chance: float = 0.0


class Census:
    """Counts the labels of a task, split by split, and refuses those that are off by one."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._splits: dict[str, _Seen] = {}

    def add(self, role: str, batch: pa.RecordBatch) -> None:
        """Count a batch of the query; rows that are dropped for other reasons count too."""
        if "label" not in self.task.columns:
            return
        seen = self._splits.setdefault(role, _Seen())
        # Without the texts, which filtering would copy.
        batch = batch.select(["label", "dropped", "counted", "choices"])
        label = batch.column("label")
        none = pc.and_(pc.equal(batch.column("dropped"), UNLABELLED), pc.equal(label, -1))
        seen.unlabelled += pc.sum(none).as_py() or 0
        batch = batch.filter(pc.greater_equal(label, 0))
        if not batch.num_rows:
            return
        label = batch.column("label")
        seen.rows += batch.num_rows
        seen.labels.update(label.unique().to_pylist())
        seen.last = seen.last or bool(pc.any(pc.equal(label, self._last(batch))).as_py())
        seen.numbers = seen.numbers or bool(pc.any(batch.column("counted")).as_py())
        if not self.task.classes:
            counts = pc.list_value_length(batch.column("choices"))
            counts = counts.filter(pc.greater(counts, 1)).cast(pa.float64())
            seen.chance += pc.sum(pc.ln(pc.subtract(1.0, pc.divide(1.0, counts)))).as_py() or 0.0

    def _last(self, batch: pa.RecordBatch) -> Any:
        """The highest label that a row may have."""
        if self.task.classes:
            return len(self.task.classes) - 1
        return pc.subtract(pc.list_value_length(batch.column("choices")), 1)

    def require(self) -> None:
        """Refuse a task whose labels seem to count from -1 or from 1. Raises BadData.

        From -1: a split has rows of label -1, others with a label, and none of the last class (or,
        of two classes, only one), and no other split has both -1 and the last class.
        From 1: no row of any split has the label 0, and labels are numbers; of multiple choice so
        many that this is no accident.
        """
        splits = self._splits.items()
        if not any(seen.unlabelled and self._is_whole(seen) for _, seen in splits):
            for role, seen in splits:
                if seen.unlabelled and seen.labels and not self._is_whole(seen):
                    self._refuse_from_minus_one(role, seen)
        chance = math.exp(sum(seen.chance for _, seen in splits)) if not self.task.classes else 0.0
        known = set().union(*(seen.labels for _, seen in splits))
        numbers = any(seen.numbers for _, seen in splits)
        if known and numbers and 0 not in known and chance < UNLIKELY:
            self._refuse_from_one(min(known))

    def _is_whole(self, seen: _Seen) -> bool:
        return seen.last and not (len(self.task.classes) == 2 and len(seen.labels) == 1)

    def _refuse_from_minus_one(self, role: str, seen: _Seen) -> None:
        what = "the last candidate is right in none" if not self.task.classes else (
            "some class in none"
        )  # fmt: skip
        raise BadData(
            f"the label is -1 in {seen.unlabelled} rows, one of {sorted(seen.labels)} in "
            f"{seen.rows}, and {what}",
            task=self.task.name, split=role, column="label",
            expected="labels that count from 0, and -1 only where a row has no label",
            fix="If -1 is a class, change label= so that it counts from 0 (… + 1). If it means "
            'that a row has no label, say so: drop = { "no label" = "… = -1" }.',
        )  # fmt: skip

    def _refuse_from_one(self, first: int) -> None:
        raise BadData(
            f"no row has the label 0, the lowest is {first}",
            task=self.task.name, split=", ".join(self._splits), column="label",
            expected="labels that count from 0",
            fix="If they count from 1, change label= (… - 1). If the first class has no rows, take "
            "it out of classes= or give labels by name; the right candidate may be given by its "
            "letter.",
        )  # fmt: skip
