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

import pyarrow as pa
import pyarrow.compute as pc

from muppet_dag.catalogue import Slice, Task
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.corpus.shards import BATCH_ROWS, ShardWriter
from muppet_dag.errors import BadData

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
        rows = pa.array(range(seen, seen + batch.num_rows), pa.int64())
        seen += batch.num_rows
        if kept is not None:
            batch, rows = batch.filter(kept), rows.filter(kept)
        writer.write(_finish(task, role, batch, rows))
        unanswerable += pc.sum(pc.equal(pc.list_value_length(batch.column("answers")), 0)).as_py() or 0
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
    try:
        yield from con.sql(query(task, part, paths)).to_arrow_reader(BATCH_ROWS)
    except duckdb.BinderException as error:
        raise BadData(
            f"a raw column is missing or has changed ({_first_line(error)})",
            task=task.name, split=role, expected=f"raw columns for {dict(task.columns)}",
            fix=f"The raw columns are now: {', '.join(_raw_columns(paths))}.",
        ) from error  # fmt: skip
    except duckdb.ConversionException as error:
        raise _locate_conversion(con, task, role, part, paths, error) from error
    except (duckdb.InvalidInputException, duckdb.IOException) as error:
        raise BadData(
            f"a raw file cannot be read ({_first_line(error)})",
            task=task.name, split=role, expected="complete parquet files",
            fix="Delete the damaged file so that it is fetched again.",
        ) from error  # fmt: skip
    finally:
        con.close()


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
    return f"SELECT *, {_dropped(task, part)} AS dropped, {span} AS bad_span FROM ({inner})"


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
        cases.append("WHEN coalesce(trim(text), '') = '' THEN 'empty text'")
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
        ids = pc.coalesce(ids, made)
    columns = [ids if f.name == "id" else batch.column(f.name).cast(f.type) for f in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


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
        metadata = pq.read_schema(path).metadata or {}
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


def _locate_conversion(con, task: Task, role: str, part: Slice, paths, error) -> BadData:
    """Find the column and row that could not be converted, to name them."""
    files = ", ".join(_quote(str(p)) for p in paths)
    for name, sql in task.columns.items():
        rows = (
            f"SELECT row_number() OVER () - 1 AS row, ({sql}) AS value FROM read_parquet([{files}])"
        )
        bad = f"value IS NOT NULL AND TRY_CAST(value AS {_SQL_TYPES[name]}) IS NULL"
        try:
            found = con.sql(f"SELECT row, value FROM ({rows}) WHERE {bad} LIMIT 1").fetchone()
        except Exception:  # the expression itself fails, then its row cannot be told this way
            found = None
        if found:
            return BadData(
                f"value {str(found[1])[:200]!r}", task=task.name, split=role, column=name,
                row=found[0], expected=f"a value of type {_SQL_TYPES[name]}",
            )  # fmt: skip
    return BadData(_first_line(error), task=task.name, split=role)


def _raw_columns(paths: Sequence[Path]) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_schema(paths[0]).names)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
