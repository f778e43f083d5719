"""Raw parquet files become shards: one DuckDB query per split, streamed, checked, written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muppet_dag.catalogue import Slice, Task
from muppet_dag.corpus.classes import Census, check_classes
from muppet_dag.corpus.query import ELSEWHERE
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.corpus.shards import ShardWriter
from muppet_dag.corpus.stream import stream
from muppet_dag.corpus.values import check_values
from muppet_dag.errors import BadData

#: Raise when the same raw rows would give other shards.
VERSION = "4"


def normalize(
    task: Task, files: Mapping[str, Sequence[Path]], folder: Path, *, memory: str = ""
) -> dict[str, Any]:
    """Write the shards of a task into ``folder``.

    ``files`` maps each raw split to its parquet files; a missing one is recorded under
    ``missing`` (training rows are required, but for a held-out task), and so is a part by hash into
    which no row falls, as happens with a handful of rows. Returns the facts for the
    manifest: per split the rows in, the rows out and the rows dropped by reason. Raises BadData.
    """
    facts: dict[str, Any] = {"family": task.family, "splits": {}, "missing": []}
    census = Census(task)
    for role, part in task.dataset.slices.items():
        paths = files.get(part.split)
        if paths:
            split = _normalize_split(task, role, part, paths, folder, memory, census)
            if split is None:
                facts["missing"].append(role)
            else:
                facts["splits"][role] = split
        elif role == "train" and not task.held_out:
            there = ", ".join(sorted(split for split in files if files[split])) or "none"
            named = {each.split for each in task.dataset.slices.values()}
            raise BadData(
                f"the source holds no files of raw split {part.split!r}, only of {there}",
                task=task.name, split=role, expected=f"splits {', '.join(sorted(named))}",
            )  # fmt: skip
        else:
            facts["missing"].append(role)
    census.require()
    return facts


def _normalize_split(
    task: Task,
    role: str,
    part: Slice,
    paths: Sequence[Path],
    folder: Path,
    memory: str,
    census: Census,
) -> dict[str, Any] | None:
    """The facts of one split; None for an evaluation split into which no row falls by its hash."""
    vouched = check_classes(task, role, paths)
    dropped: Counter[str] = Counter()
    seen = unanswerable = 0
    with ShardWriter(folder, role) as writer:
        for batch in stream(task, part, paths, role=role, memory=memory):
            if not vouched:
                census.add(role, batch)
            kept, why = _keep(batch)
            dropped.update(why)
            rows = pa.array(np.arange(seen, seen + batch.num_rows))
            seen += batch.num_rows
            if kept is not None:
                batch, rows = batch.filter(kept), rows.filter(kept)
            writer.write(_finish(task, role, batch, rows))
            if task.family == "mrc":
                lengths = pc.list_value_length(batch.column("answers"))
                unanswerable += pc.sum(pc.equal(lengths, 0)).as_py() or 0
    elsewhere = dropped.pop(ELSEWHERE, 0)
    if writer.rows == 0:
        if seen and seen == elsewhere and role != "train":
            for path in folder.glob(f"{role}-?????.arrow"):
                path.unlink()
            return None
        raise _nothing_left(task, role, part, seen, elsewhere, dropped)
    counts = {"rows_in": seen - elsewhere, "rows": writer.rows}
    facts = {**counts, "dropped": dict(sorted(dropped.items()))}
    return facts | ({"unanswerable": unanswerable} if task.family == "mrc" else {})


def _nothing_left(
    task: Task, role: str, part: Slice, seen: int, elsewhere: int, dropped: Mapping[str, int]
) -> BadData:
    """A split without rows: all were dropped, or a part by hash of few rows got none of them."""
    if seen and seen == elsewhere:
        problem = (
            f"none of the {seen} rows of raw split {part.split!r} falls into its part from "
            f"{part.low}% to {part.high}%, which a hash of their text decides"
        )
        fix = "Take a larger part, give more rows, or give the rows of this split as a file."
    else:
        problem = f"no row is left of {seen - elsewhere} (dropped: {dict(dropped) or 'none'})"
        fix = f"Look at raw split {part.split!r} of {task.dataset.repository}."
    return BadData(
        problem, task=task.name, split=role, expected="at least one labelled row", fix=fix
    )


def _keep(batch: pa.RecordBatch) -> tuple[pa.Array | None, dict[str, int]]:
    """The mask of rows to keep (None: all) and the count of dropped rows by reason."""
    dropped = batch.column("dropped")
    if dropped.null_count == len(dropped):
        return None, {}
    counts = pc.value_counts(dropped.drop_null()).to_pylist()
    return dropped.is_null(), {count["values"]: count["counts"] for count in counts}


def _finish(task: Task, role: str, batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Check values, fill in ids, and bring a batch to the unified schema."""
    check_values(task, role, batch, rows)
    ids = batch.column("id")
    if ids.null_count:
        numbered = pc.binary_join_element_wise(role, pc.cast(rows, pa.string()), "/")
        ids = numbered if ids.null_count == len(ids) else pc.coalesce(ids, numbered)
    columns = [ids if f.name == "id" else batch.column(f.name).cast(f.type) for f in SCHEMA]
    numbers = (pa.int32(), pa.float32())
    columns = [_blanked(column) if column.type in numbers else column for column in columns]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _blanked(column: pa.Array) -> pa.Array:
    """The same numbers, with 0 under nulls: DuckDB leaves there what was in memory, and equal
    rows would give other bytes."""
    if not column.null_count:
        return column
    if column.null_count == len(column):
        return pa.nulls(len(column), column.type)
    absent = column.is_null().to_numpy(zero_copy_only=False)
    return pa.array(column.fill_null(0).to_numpy(), mask=absent)
