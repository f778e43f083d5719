"""The SQL of one split.

The query keeps every raw row in order and only says why a row is to be dropped, so that raw row
numbers in error messages are right and every dropped row is counted under its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from muppet_dag.catalogue import Slice, Task
from muppet_dag.corpus.database import database
from muppet_dag.corpus.explain import explained
from muppet_dag.corpus.readers import listed, quote, table
from muppet_dag.corpus.schema import SQL_TYPES
from muppet_dag.corpus.shards import BATCH_ROWS, rebatch

if TYPE_CHECKING:
    import duckdb

#: Seed of the hash that carves validation rows out of a training split.
CARVE_SEED = 20210111
#: Reason of rows that belong to another slice of the same raw split; they are not counted.
ELSEWHERE = "in another part of the split"

#: Bytes on disk of a raw row from which on one thread reads: each holds about a thousand rows, and
#: copies of them.
LONG = 16_384


def query(task: Task, part: Slice, paths: Sequence[Path]) -> str:
    """The SQL of one split: unified columns, ``dropped`` (a reason or NULL), and what is wrong:
    ``bad_label`` (a label that is no whole number) and ``bad_span`` (1 for the first answer)."""
    columns = [
        f"CAST({_column(task, name)} AS {kind}) AS {name}" for name, kind in SQL_TYPES.items()
    ]
    drops = " ".join(f"WHEN {condition} THEN {quote(why)}" for why, condition in task.drop.items())
    why = f"CASE {drops} END" if drops else "NULL::VARCHAR"
    # To make it an integer would round it.
    raw_label = f"CAST({_column(task, 'label')} AS DOUBLE) AS raw_label"
    inner = f"SELECT {', '.join(columns)}, {raw_label}, {why} AS drop_why FROM {table(paths)}"
    span = (
        "list_position(list_transform(answers, "
        "lambda a: coalesce(substr(text, a.start + 1, length(a.text)) = a.text, false)), false)"
        if task.family == "mrc"
        else "NULL::INTEGER"
    )
    return (
        f"SELECT * EXCLUDE (raw_label, drop_why), {_dropped(task, part)} AS dropped, "
        f"CASE WHEN raw_label <> label THEN raw_label END AS bad_label, {span} AS bad_span "
        f"FROM ({inner})"
    )


def _dropped(task: Task, part: Slice) -> str:
    """Why a row is left out: not this part of the split, the entry's reasons, no label, no text."""
    cases = []
    if (part.low, part.high) != (0, 100):
        bucket = f"md5_number(concat('{CARVE_SEED}/', text, '/', query)) % 100"
        inside = f"{bucket} BETWEEN {part.low} AND {part.high - 1}"
        cases.append(f"WHEN NOT ({inside}) THEN {quote(ELSEWHERE)}")
    cases.append("WHEN drop_why IS NOT NULL THEN drop_why")
    unlabelled = {
        "classification": "score IS NULL" if task.regression else "coalesce(raw_label, -1) = -1",
        "commonsense": "coalesce(raw_label, -1) = -1",
        "mrc": "answers IS NULL",
        "summarization": "coalesce(trim(target), '') = ''",
    }[task.family]
    cases.append(f"WHEN {unlabelled} THEN 'unlabelled'")
    if task.family == "commonsense":  # its question needs no context
        cases.append("WHEN list_count(choices) < len(choices) THEN 'missing candidate'")
    else:
        cases.append(f"WHEN {blank('text')} THEN 'empty text'")
    return f"CASE {' '.join(cases)} END"


def blank(text: str) -> str:
    """SQL for whether a text is NULL or has nothing but white space."""
    # A text that opens with a visible sign of ASCII needs no search, and nearly all do.
    visible = f"coalesce(unicode({text}) BETWEEN 33 AND 126, false)"
    signs = rf"coalesce(regexp_matches({text}, '[^\s\p{{Z}}]'), false)"
    return f"CASE WHEN {visible} THEN false ELSE NOT {signs} END"


def _column(task: Task, name: str) -> str:
    return f"({task.columns[name]})" if name in task.columns else "NULL"


def stream(
    task: Task, part: Slice, paths: Sequence[Path], *, role: str, memory: str = "1GB"
) -> Iterator[pa.RecordBatch]:
    """Run the entry's SQL over raw files; yields batches with the helper column ``dropped``."""
    import duckdb

    with database(memory) as con:
        try:
            if _long(con, paths):
                con.execute("SET threads = 1")
            # A batch of DuckDB's ends with each row group of the file, which may be small.
            yield from rebatch(con.sql(query(task, part, paths)).to_arrow_reader(BATCH_ROWS))
        except (duckdb.Error, OSError) as error:
            raise explained(con, task, role, paths, error) from error


def _long(con: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> bool:
    """Whether rows are so long (whole web pages) that what one thread holds of them is enough."""
    if paths[0].suffix.lower() != ".parquet":
        return False
    counted = f"SELECT sum(num_rows) FROM parquet_file_metadata({listed(paths)})"
    ((rows,),) = con.sql(counted).fetchall()
    return sum(path.stat().st_size for path in paths) > LONG * rows
