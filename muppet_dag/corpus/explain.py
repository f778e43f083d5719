"""What DuckDB's errors mean to the user: which task, split, column and row, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import Files
from muppet_dag.corpus.readers import table
from muppet_dag.corpus.schema import SQL_TYPES
from muppet_dag.errors import BadData, MuppetError


def explained(con, task: Task, role: str, paths: Sequence[Path], error: Exception) -> MuppetError:
    """What DuckDB's error means to the user.

    Behind the first batch errors come by way of Arrow, as OSError with the kind in the text only.
    """
    message = first_line(error)
    if message.startswith("Out of Memory"):
        return MuppetError(f"task {task.name!r}, split {role!r}: {message}")
    if message.startswith("Binder Error"):
        return BadData(
            f"a raw column is missing or has changed ({message})",
            task=task.name, split=role, expected=f"raw columns for {dict(task.columns)}",
            fix=_columns_now(con, task, paths),
        )  # fmt: skip
    if message.startswith("Conversion Error"):
        return _locate_conversion(con, task, role, paths, message)
    # Where a line of CSV is wrong, the next lines say which and how.
    return unreadable(task, role, " ".join(str(error).splitlines()[:3])[:400])


def unreadable(task: Task, role: str, message: str) -> BadData:
    """A raw file that DuckDB or Arrow cannot read."""
    if isinstance(task.dataset, Files):
        expected = "Parquet, or UTF-8 text with one kind of line end"
        fix = f"See {task.dataset.config}."
    else:
        expected = "complete parquet files"
        fix = "Delete the damaged file so that it is fetched again."
    return BadData(
        f"a raw file cannot be read ({message})",
        task=task.name, split=role, expected=expected, fix=fix,
    )  # fmt: skip


def _locate_conversion(con, task: Task, role: str, paths: Sequence[Path], message: str) -> BadData:
    """Find the column and row that could not be converted, to name them."""
    import duckdb

    for name, sql in task.columns.items():
        rows = f"SELECT row_number() OVER () - 1 AS row, ({sql}) AS value FROM {table(paths)}"
        bad = f"value IS NOT NULL AND TRY_CAST(value AS {SQL_TYPES[name]}) IS NULL"
        try:
            bad_row = con.execute(f"SELECT row, value FROM ({rows}) WHERE {bad} LIMIT 1").fetchone()
        except duckdb.Error:  # the expression itself fails, so its row is not known this way
            bad_row = None
        if bad_row:
            return BadData(
                f"value {str(bad_row[1])[:200]!r}", task=task.name, split=role, column=name,
                row=bad_row[0], expected=f"a value of type {SQL_TYPES[name]}",
            )  # fmt: skip
    return BadData(message, task=task.name, split=role)


def _columns_now(con, task: Task, paths: Sequence[Path]) -> str:
    names = [row[0] for row in con.execute(f"DESCRIBE FROM {table(paths)}").fetchall()]
    hint = f"The raw columns are now: {', '.join(names)}."
    if isinstance(task.dataset, Files):
        hint += f" They are those of {paths[0]}."
        if paths[0].suffix.lower() in (".csv", ".tsv"):
            hint += " All are text: a number is had by CAST(column AS INTEGER)."
    return hint


def first_line(error: Exception) -> str:
    """The first line of an error's text."""
    return str(error).splitlines()[0]
