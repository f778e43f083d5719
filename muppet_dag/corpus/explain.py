"""What DuckDB's errors mean to the user: which file is damaged, or which key of the entry is wrong
and in which row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import Files
from muppet_dag.corpus.database import MEMORY, quote
from muppet_dag.corpus.expressions import NotOneExpression, columns, enclosed, typed
from muppet_dag.corpus.raw.readers import RAW
from muppet_dag.errors import BadData, MuppetError

if TYPE_CHECKING:
    import duckdb

#: Characters shown of an expression and of a value.
_SHOWN = 200
#: Raw rows read at a time when a file is searched for damage.
_ROWS = 1_000


def explained(
    con: duckdb.DuckDBPyConnection, task: Task, role: str, paths: Sequence[Path], error: Exception
) -> MuppetError:
    """What an error of a split's query means: it is tried again, part by part.

    Behind the first batch errors come by way of Arrow, as OSError with the kind in the text only.
    """
    import duckdb

    message = first_line(error)
    if message.startswith("Out of Memory"):
        return MuppetError(
            f"task {task.name!r}, split {role!r}: {message}. Give it more memory: "
            f"{MEMORY}=4GB (1GB if not set)"
        )
    if not isinstance(error, duckdb.FatalException | duckdb.InternalException):
        parts = (_unfit, _damaged, _failing)
        problems = (problem for part in parts for problem in part(con, task, role, paths, RAW))
        if problem := next(problems, None):
            return problem
    return BadData(
        f"the query of the split fails ({message})", task=task.name, split=role,
        expected=f"expressions that DuckDB can run: {dict(task.columns)}",
    )  # fmt: skip


def unreadable(task: Task, role: str, message: str) -> BadData:
    """A raw file that DuckDB or Arrow cannot read."""
    if isinstance(task.dataset, Files):
        expected = "Parquet, or CSV, TSV or JSON lines in UTF-8"
        paths = list(dict.fromkeys(task.dataset.paths.values()))
        fix = None if any(path in message for path in paths) else f"See {', '.join(paths)}."
    else:
        expected = "complete parquet files"
        fix = "Delete the damaged file so that it is fetched again."
    return BadData(
        f"a raw file cannot be read ({message})",
        task=task.name, split=role, expected=expected, fix=fix,
    )  # fmt: skip


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).splitlines()[0]


def _keys(task: Task) -> Iterator[tuple[str, str]]:
    """Every expression of an entry, with its key."""
    yield from task.columns.items()
    yield from ((f"drop[{why!r}]", sql) for why, sql in task.drop.items())


def _run(task: Task, key: str, sql: str) -> str:
    """The SQL that is run for a key. Raises NotOneExpression."""
    return typed(task, key) if key in task.columns else f"CASE WHEN {enclosed(sql)} THEN 1 END"


def _unfit(con, task: Task, role: str, paths: Sequence[Path], raw: str) -> Iterator[BadData]:
    """Expressions that do not fit the raw columns, whatever the rows hold."""
    import duckdb

    try:
        there = [row[:2] for row in con.execute(f"DESCRIBE FROM {raw}").fetchall()]
    except duckdb.Error as error:
        yield unreadable(task, role, _lines(error))
        return
    for key, sql in _keys(task):
        try:
            # Beside all raw columns, so that an aggregate is refused as it is in the query.
            con.execute(f"SELECT *, {_run(task, key, sql)} FROM {raw} LIMIT 0")
        except (duckdb.Error, NotOneExpression) as error:
            yield BadData(
                f"{shown(key, sql)} does not fit the raw columns: one is missing or has changed, "
                f"or the expression is wrong ({first_line(error)})",
                task=task.name, split=role, column=key,
                expected="a DuckDB expression over the raw columns",
                fix=_columns_now(task, paths, there),
            )  # fmt: skip


def _damaged(con, task: Task, role: str, paths: Sequence[Path], raw: str) -> Iterator[BadData]:
    """Whether the files can be read at all."""
    import duckdb

    try:
        for _ in con.sql(f"FROM {raw}").to_arrow_reader(_ROWS):
            pass
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # Where a line of CSV is wrong, the next lines say which and how.
        yield unreadable(task, role, _lines(error))


def _failing(con, task: Task, role: str, paths: Sequence[Path], raw: str) -> Iterator[BadData]:
    """Expressions that fail on a row."""
    import duckdb

    for key, sql in _keys(task):
        run = _run(task, key, sql)
        try:
            con.execute(f"SELECT count({run}) FROM {raw}")
        except duckdb.Error as error:
            row = _row(con, run, raw)
            message = _message(con, run, raw, row) or first_line(error)
            hint = "" if "would be rounded" not in message else (
                " A cast to a whole number does not round here: cast AS DOUBLE, or say round() or "
                "floor() inside the cast."
            )  # fmt: skip
            yield BadData(
                f"{shown(key, sql)} fails{_values(con, sql, raw, row)} ({message})",
                task=task.name, split=role, column=key, row=row,
                expected="a DuckDB expression that holds for every row",
                fix=f"Change {key}=, or guard it: TRY_CAST gives NULL where a value does not fit."
                + hint,
            )  # fmt: skip


def _row(con: duckdb.DuckDBPyConnection, run: str, raw: str) -> int | None:
    """The first raw row on which an expression fails; None if none fails alone."""
    import duckdb

    rows = f"(SELECT *, row_number() OVER () - 1 AS _row FROM {raw})"
    try:
        # TRY makes NULL of an error, and of nothing else here.
        failed = con.execute(f"SELECT min(_row) FROM {rows} WHERE TRY(({run}) IS NULL) IS NULL")
        return failed.fetchone()[0]
    except duckdb.Error:
        return _halved(con, run, raw)


def _message(con: duckdb.DuckDBPyConnection, run: str, raw: str, row: int | None) -> str:
    """Why an expression fails on this very row: of many rows another one may fail first."""
    import duckdb

    try:
        con.execute(f"SELECT count({run}) FROM (FROM {raw} LIMIT 1 OFFSET {row or 0})")
    except duckdb.Error as error:
        return first_line(error)
    return ""


def _halved(con: duckdb.DuckDBPyConnection, run: str, raw: str) -> int | None:
    """The same by halving, where TRY does not catch the error."""
    import duckdb

    def fails(rows: int) -> bool:
        try:
            con.execute(f"SELECT count({run}) FROM (FROM {raw} LIMIT {rows})")
        except duckdb.Error:
            return True
        return False

    low, high = 0, con.execute(f"SELECT count(*) FROM {raw}").fetchone()[0]
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle + 1, high)
    return low - 1 if low else None


def _values(con: duckdb.DuckDBPyConnection, sql: str, raw: str, row: int | None) -> str:
    """The values of a row that an expression reads."""
    if row is None:
        return ""
    read = {path[0] for path in columns(sql)}
    result = con.execute(f"FROM {raw} LIMIT 1 OFFSET {row}")
    named = zip((each[0] for each in result.description), result.fetchone(), strict=True)
    shown = [f"{name} is {_cut(repr(value))}" for name, value in named if name.lower() in read]
    return f" where {', '.join(shown)}" if shown else ""


def _columns_now(task: Task, paths: Sequence[Path], there: Sequence[tuple[str, str]]) -> str:
    hint = f"The raw columns are now: {', '.join(name for name, _ in there)}."
    if isinstance(task.dataset, Files):
        hint += f" They are those of {paths[0]}."
        if paths[0].suffix.lower() in (".csv", ".tsv"):
            hint += " All are text: a number is had by CAST(column AS DOUBLE)."
    return hint


def shown(key: str, sql: str) -> str:
    """A key of an entry with its expression, as messages name them."""
    return f"{key} = {_cut(quote(' '.join(sql.split())))}"


def _lines(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:3])[:400]


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
