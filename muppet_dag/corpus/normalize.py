"""Raw parquet files become shards: one DuckDB query per split, streamed, checked, written.

The query keeps every raw row in order and only says why a row is to be dropped, so that raw row
numbers in error messages are right and every dropped row is counted under its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muppet_dag.catalogue import Slice, Task
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.corpus.shards import BATCH_ROWS, ShardWriter, rebatch
from muppet_dag.errors import BadData, MuppetError

#: Raise when the same raw rows would give other shards.
VERSION = "1"
#: Seed of the hash that carves validation rows out of a training split.
CARVE_SEED = 20210111

_SQL_TYPES = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "query": "VARCHAR",
    "choices": "VARCHAR[]",
    "label": "INTEGER",
    "score": "FLOAT",
    "answers": "STRUCT(text VARCHAR, start INTEGER)[]",
    "target": "VARCHAR",
}
_ELSEWHERE = "in another part of the split"


def normalize(
    task: Task, files: Mapping[str, Sequence[Path]], folder: Path, *, memory: str = "1GB"
) -> dict[str, Any]:
    """Write the shards of a task into ``folder``.

    ``files`` maps each raw split to its parquet files; a missing one is recorded under
    ``missing`` (training rows are required). Returns the facts for the manifest: per split the
    rows in, the rows out and the rows dropped by reason. Raises BadData.
    """
    facts: dict[str, Any] = {"family": task.family, "splits": {}, "missing": []}
    for role, part in task.dataset.slices.items():
        paths = files.get(part.split)
        if paths:
            facts["splits"][role] = _normalize_split(task, role, part, paths, folder, memory)
        elif role == "train":
            raise BadData(
                f"the source holds no files of raw split {part.split!r}",
                task=task.name,
                split=role,
                expected=f"splits {', '.join(sorted({s.split for s in task.dataset.slices.values()}))}",
            )
        else:
            facts["missing"].append(role)
    return facts


def _normalize_split(
    task: Task, role: str, part: Slice, paths: Sequence[Path], folder: Path, memory: str
) -> dict[str, Any]:
    _check_classes(task, role, paths)
    dropped: Counter[str] = Counter()
    writer = ShardWriter(folder, role)
    seen = unanswerable = 0
    for batch in stream(task, part, paths, role=role, memory=memory):
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
    writer.close()
    elsewhere = dropped.pop(_ELSEWHERE, 0)
    if writer.rows == 0:
        raise BadData(
            f"no row is left of {seen - elsewhere} (dropped: {dict(dropped) or 'none'})",
            task=task.name, split=role, expected="at least one labelled row",
            fix=f"Look at raw split {part.split!r} of {task.dataset.repository}.",
        )  # fmt: skip
    facts = {"rows_in": seen - elsewhere, "rows": writer.rows, "dropped": dict(sorted(dropped.items()))}
    return facts | ({"unanswerable": unanswerable} if task.family == "mrc" else {})


def stream(
    task: Task, part: Slice, paths: Sequence[Path], *, role: str, memory: str = "1GB"
) -> Iterator[pa.RecordBatch]:
    """Run the entry's SQL over raw files; yields batches with the helper column ``dropped``."""
    import duckdb

    con = duckdb.connect(config={"memory_limit": memory, "autoinstall_known_extensions": "false"})
    con.execute("SET enable_progress_bar = false")
    # Room to read ahead: DuckDB's threads go on while the last batch is checked and written.
    con.execute("SET streaming_buffer_size = '64MB'")
    try:
        # A batch of DuckDB's ends with each row group of the file, which may be small.
        yield from rebatch(con.sql(query(task, part, paths)).to_arrow_reader(BATCH_ROWS))
    except (duckdb.Error, OSError) as error:
        raise _explained(con, task, role, paths, error) from error
    finally:
        con.close()


def _explained(con, task: Task, role: str, paths: Sequence[Path], error: Exception) -> MuppetError:
    """What DuckDB's error means to the user.

    Behind the first batch errors come by way of Arrow, as OSError with the kind in the text only.
    """
    said = _first_line(error)
    if said.startswith("Out of Memory"):
        return MuppetError(f"task {task.name!r}, split {role!r}: {said}")
    if said.startswith("Binder Error"):
        return BadData(
            f"a raw column is missing or has changed ({said})",
            task=task.name, split=role, expected=f"raw columns for {dict(task.columns)}",
            fix=f"The raw columns are now: {', '.join(_raw_columns(paths))}.",
        )  # fmt: skip
    if said.startswith("Conversion Error"):
        return _locate_conversion(con, task, role, paths, said)
    return _unreadable(task, role, said)


def _unreadable(task: Task, role: str, said: str) -> BadData:
    return BadData(
        f"a raw file cannot be read ({said})",
        task=task.name, split=role, expected="complete parquet files",
        fix="Delete the damaged file so that it is fetched again.",
    )  # fmt: skip


def query(task: Task, part: Slice, paths: Sequence[Path]) -> str:
    """The SQL of one split: unified columns, ``dropped`` (a reason or NULL) and ``bad_span``."""
    columns = [
        f"CAST({_column(task, name)} AS {kind}) AS {name}" for name, kind in _SQL_TYPES.items()
    ]
    drops = " ".join(f"WHEN {condition} THEN {_quote(why)}" for why, condition in task.drop.items())
    inner = (
        f"SELECT {', '.join(columns)}, {f'CASE {drops} END' if drops else 'NULL::VARCHAR'} AS drop_why "
        f"FROM read_parquet([{', '.join(_quote(str(p)) for p in paths)}])"
    )
    span = (
        "list_position(list_transform(answers, "
        "lambda a: coalesce(substr(text, a.start + 1, length(a.text)) = a.text, false)), false)"
        if task.family == "mrc"
        else "NULL::INTEGER"
    )
    return (
        f"SELECT * EXCLUDE (drop_why), {_dropped(task, part)} AS dropped, {span} AS bad_span "
        f"FROM ({inner})"
    )


def _dropped(task: Task, part: Slice) -> str:
    """Why a row is left out: not this part of the split, the entry's reasons, no label, no text."""
    cases = []
    if (part.low, part.high) != (0, 100):
        bucket = f"md5_number(concat('{CARVE_SEED}/', text, '/', query)) % 100"
        cases.append(f"WHEN NOT ({bucket} BETWEEN {part.low} AND {part.high - 1}) THEN {_quote(_ELSEWHERE)}")
    cases.append("WHEN drop_why IS NOT NULL THEN drop_why")
    unlabelled = {
        "classification": "score IS NULL" if task.regression else "coalesce(label, -1) = -1",
        "commonsense": "coalesce(label, -1) = -1",
        "mrc": "answers IS NULL",
        "summarization": "coalesce(trim(target), '') = ''",
    }[task.family]
    cases.append(f"WHEN {unlabelled} THEN 'unlabelled'")
    if task.family != "commonsense":  # a commonsense question needs no context
        # trim copies its text, which would take as long as all the rest: a text that opens with a
        # visible sign of ASCII is not empty.
        visible = "coalesce(unicode(text) BETWEEN 33 AND 126, false)"
        blank = f"CASE WHEN {visible} THEN false ELSE coalesce(trim(text), '') = '' END"
        cases.append(f"WHEN {blank} THEN 'empty text'")
    return f"CASE {' '.join(cases)} END"


def _column(task: Task, name: str) -> str:
    return f"({task.columns[name]})" if name in task.columns else "NULL"


def _keep(batch: pa.RecordBatch) -> tuple[pa.Array | None, dict[str, int]]:
    """The mask of rows to keep (None: all) and the count of dropped rows by reason."""
    dropped = batch.column("dropped")
    if dropped.null_count == len(dropped):
        return None, {}
    counts = pc.value_counts(dropped.drop_null()).to_pylist()
    return dropped.is_null(), {count["values"]: count["counts"] for count in counts}


def _finish(task: Task, role: str, batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Check values, fill in ids, and bring a batch to the unified schema."""
    _check_values(task, role, batch, rows)
    ids = batch.column("id")
    if ids.null_count:
        made = pc.binary_join_element_wise(role, pc.cast(rows, pa.string()), "/")
        ids = made if ids.null_count == len(ids) else pc.coalesce(ids, made)
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


def _check_values(task: Task, role: str, batch: pa.RecordBatch, rows: pa.Array) -> None:
    """Refuse the first row whose label, score, candidates or span is impossible."""
    label = batch.column("label")
    if task.classes:
        good = pc.and_(pc.greater_equal(label, 0), pc.less(label, len(task.classes)))
        _refuse(task, role, batch, rows, good, "label", f"0 to {len(task.classes) - 1} {task.classes}")
    elif task.family == "commonsense":
        count = pc.list_value_length(batch.column("choices"))
        _refuse(task, role, batch, rows, pc.greater_equal(count, 2), "choices", "two or more candidates")
        good = pc.and_(pc.greater_equal(label, 0), pc.less(label, count))
        _refuse(task, role, batch, rows, good, "label", "the index of one of the candidates")
    elif task.family == "mrc":
        _refuse(task, role, batch, rows, batch.column("bad_span").is_null(), "answers",
                "every answer to stand in the text at its start (in characters)")  # fmt: skip
    elif task.score_range:
        low, high = task.score_range
        score = batch.column("score")
        good = pc.and_(pc.greater_equal(score, low), pc.less_equal(score, high))
        _refuse(task, role, batch, rows, good, "score", f"a number from {low} to {high}")


def _refuse(
    task: Task, role: str, batch: pa.RecordBatch, rows: pa.Array, good: pa.Array, column: str, expected: str
) -> None:  # fmt: skip
    bad = pc.index(pc.fill_null(good, False), False).as_py()
    if bad < 0:
        return
    said = batch.column(column)[bad].as_py()
    raise BadData(
        f"value {str(said)[:200]!r} of the row with id {batch.column('id')[bad].as_py()!r}",
        task=task.name, split=role, column=column, row=rows[bad].as_py(), expected=expected,
        fix=f"Check {task.dataset.repository} or the entry's {column}= expression.",
    )  # fmt: skip


def _check_classes(task: Task, role: str, paths: Sequence[Path]) -> None:
    """Refuse a dataset whose ClassLabel names differ from the entry's, where it has any.

    A reordered class list keeps all integers valid and makes every label wrong.
    """
    import pyarrow.parquet as pq

    expression = task.columns.get("label", "").strip('"')
    for path in paths:
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(task, role, f"{path.name}: {_first_line(error)}") from error
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get(expression, {}).get("names")
        if task.classes and names and len(names) == len(task.classes) and _reordered(names, task.classes):
            raise BadData(
                f"the dataset's classes are {names}", task=task.name, split=role,
                column=expression, expected=f"{list(task.classes)}, in this order",
                fix="Change the entry's classes= and raise its version.",
            )  # fmt: skip
        if task.classes and names and len(names) != len(task.classes):
            raise BadData(
                f"the dataset has {len(names)} classes {names}", task=task.name, split=role,
                column=expression, expected=f"the {len(task.classes)} classes {list(task.classes)}",
                fix="Change the entry's classes= and raise its version.",
            )  # fmt: skip


def _reordered(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether both hold the same names in another order; an entry may use clearer names."""
    return list(names) != list(classes) and sorted(names) == sorted(classes)


def _locate_conversion(con, task: Task, role: str, paths: Sequence[Path], said: str) -> BadData:
    """Find the column and row that could not be converted, to name them."""
    import duckdb

    files = ", ".join(_quote(str(p)) for p in paths)
    for name, sql in task.columns.items():
        rows = (
            f"SELECT row_number() OVER () - 1 AS row, ({sql}) AS value FROM read_parquet([{files}])"
        )
        bad = f"value IS NOT NULL AND TRY_CAST(value AS {_SQL_TYPES[name]}) IS NULL"
        try:
            found = con.execute(f"SELECT row, value FROM ({rows}) WHERE {bad} LIMIT 1").fetchone()
        except duckdb.Error:  # the expression itself fails, then its row cannot be told this way
            found = None
        if found:
            return BadData(
                f"value {str(found[1])[:200]!r}", task=task.name, split=role, column=name,
                row=found[0], expected=f"a value of type {_SQL_TYPES[name]}",
            )  # fmt: skip
    return BadData(said, task=task.name, split=role)


def _raw_columns(paths: Sequence[Path]) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(paths[0]).names)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
