"""How raw files are read: Parquet from the Hub, and CSV, TSV or JSON lines of a user's own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from muppet_dag.errors import SourceError


def table(paths: Sequence[Path]) -> str:
    """The DuckDB table function over files of one kind, which their ending tells. Rows in order."""
    files, ending = listed(paths), paths[0].suffix.lower()
    if ending in (".csv", ".tsv"):
        return f"read_csv({files}, {_dialect(paths[0], chr(9) if ending == '.tsv' else ',')})"
    if ending in (".jsonl", ".ndjson"):
        # All rows count for the types, and a text that looks like a date stays the text it is.
        plain = "sample_size=-1, dateformat='never', timestampformat='never'"
        return f"read_json({files}, format='newline_delimited', {plain}, hive_partitioning=false)"
    return f"read_parquet({files})"


def listed(paths: Sequence[Path]) -> str:
    """A list of files as SQL."""
    return f"[{', '.join(quote(str(path)) for path in paths)}]"


def quote(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _dialect(path: Path, delimiter: str) -> str:
    """RFC 4180 with a header, and nothing guessed.

    DuckDB's detection would skip rows that do not fit, make 7 of "007" and 1.5 of "1.50". So every
    column is text, and an entry says what is a number: ``CAST(stars AS INTEGER)``.
    """
    columns = ", ".join(f"{quote(name)}: 'VARCHAR'" for name in _header(path, delimiter))
    return (
        f"columns={{{columns}}}, auto_detect=false, header=true, strict_mode=true, "
        f"delim={quote(delimiter)}, quote='\"', escape='\"', hive_partitioning=false"
    )


def _header(path: Path, delimiter: str) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file, delimiter=delimiter, strict=True), [])
    except (OSError, ValueError, csv.Error) as error:
        raise SourceError(f"{path}: cannot be read as UTF-8 CSV ({error})") from error
    if not names or not all(names) or len({name.lower() for name in names}) < len(names):
        raise SourceError(
            f"{path}: the first line is {names}; expected the columns' names, all different"
        )
    return names
