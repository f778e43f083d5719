"""The rows of one split as Arrow batches: an entry's SQL run over its raw files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from muppet_dag.catalogue import Slice, Task
from muppet_dag.catalogue.task import Files
from muppet_dag.corpus.database import require_room
from muppet_dag.corpus.explain import explained, unreadable
from muppet_dag.corpus.expressions import NotOneExpression, names_in, require_expressions
from muppet_dag.corpus.fit import broken_cell, fitted
from muppet_dag.corpus.query import query
from muppet_dag.corpus.raw.readers import Raw, opened
from muppet_dag.corpus.shards import BATCH_BYTES, rebatch
from muppet_dag.errors import BadData, SourceError


def stream(
    task: Task, part: Slice, paths: Sequence[Path], *, role: str, memory: str = ""
) -> Iterator[pa.RecordBatch]:
    """Run the entry's SQL over raw files; yields batches with the helper column ``dropped``."""
    try:
        with opened(paths, quote=quote_sign(task), memory=memory) as raw:
            yield from _stream(raw, task, part, role, paths)
    except SourceError as error:
        raise unreadable(task, role, str(error)) from error


def _stream(
    raw: Raw, task: Task, part: Slice, role: str, paths: Sequence[Path]
) -> Iterator[pa.RecordBatch]:
    import duckdb

    fit = None
    try:
        require_expressions(task)
        fit = fitted(raw, task, role)
        rows = raw.con.sql(query(fit.task, part)).to_arrow_reader(raw.rows_at_once)
        # A batch of DuckDB's ends with each row group of the file, which may be small.
        yield from rebatch(rows, size=BATCH_BYTES)
    except (duckdb.Error, OSError, NotOneExpression) as error:
        require_room(error)
        problem = (fit and broken_cell(raw, fit, role)) or invalid_text(raw, task, role, error)
        problem = problem or explained(raw.con, task, role, paths, error)
        problem.args = (raw.renamed(str(problem)),)
        raise problem from error


def quote_sign(task: Task) -> str:
    """The sign that encloses fields of the task's CSV and TSV files; "" if none does."""
    return task.dataset.quote if isinstance(task.dataset, Files) else '"'


def invalid_text(raw: Raw, task: Task, role: str, error: Exception) -> BadData | None:
    """The first text of a Parquet file that is no UTF-8, where the error is of that kind."""
    if "Invalid string encoding" not in str(error):
        return None
    read = {name for sql in task.columns.values() for name in names_in(sql)}
    first = 0
    for each in raw.files:
        texts = [name for name, _, kind in each.columns if kind.id == "varchar"]
        texts = [name for name in texts if name.lower() in read]
        for batch in pq.ParquetFile(each.path).iter_batches(raw.rows_at_once, columns=texts):
            for name in texts:
                row = _not_utf8(batch.column(name))
                if row is not None:
                    return BadData(
                        f"bytes in {each.named.name} that are no text", task=task.name, split=role,
                        column=name, row=first + row, expected="text in UTF-8",
                        fix="Decode it with the encoding that it has, and write the file again.",
                    )  # fmt: skip
            first += batch.num_rows
    return None


def _not_utf8(column: pa.Array) -> int | None:
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return row
    return None
