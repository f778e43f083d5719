"""CSV and TSV as Arrow batches of texts: a header, RFC 4180, and nothing guessed.

Every column is text ("007" stays "007"), and an entry says what is a number. What is empty is
missing.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from muppet_dag.corpus.raw.lines import LONGEST, Line, bounded, lines
from muppet_dag.errors import SourceError


class _Rows:
    """Rows of a file, each with the line on which it begins and the bytes of its lines."""

    def __init__(self, path: Path, delimiter: str, quote: str) -> None:
        self.path, self.delimiter, self.quote = path, delimiter, quote
        self.begin, self.size = 1, 0

    def __iter__(self) -> Iterator[tuple[Line, list[str]]]:
        csv.field_size_limit(max(LONGEST, csv.field_size_limit()))
        quoting = {"quotechar": self.quote} if self.quote else {"quoting": csv.QUOTE_NONE}
        reader = csv.reader(self._texts(), delimiter=self.delimiter, strict=True, **quoting)
        while True:
            self.begin, self.size = reader.line_num + 1, 0
            try:
                row = next(reader, None)
            except csv.Error as error:
                raise self.error(_plain(error)) from error
            if row is None:
                return
            if row:
                if self.delimiter == "\t" and self.quote:
                    self._require_tsv(row, reader.line_num)
                yield Line(self.begin, "", self.size), row

    def error(self, problem: str) -> SourceError:
        fix = ""
        if self.delimiter == "\t" and self.quote:
            fix = (
                f"; where {self.quote} is a sign like any other, as in most TSV files, say so: "
                'files = { …, quote = "" }'
            )
        return SourceError(f"{self.path}: line {self.begin}: {problem}{fix}")

    def _require_tsv(self, row: list[str], last: int) -> None:
        """TSV knows no quotes: two rows that a stray pair of them makes one are refused."""
        if last > self.begin or any("\t" in field or "\r" in field for field in row):
            raise self.error(
                f"a field in quotes holds a {'line break' if last > self.begin else 'tab'}"
            )

    def _texts(self) -> Iterator[str]:
        for line in lines(self.path):
            self.size += line.size
            yield line.text


def delimited_batches(
    path: Path, delimiter: str, quote: str
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The schema of a file, and its rows. SourceError, with the line, where one is broken."""
    rows = _Rows(path, delimiter, quote)
    _, names = next(iter(rows), (None, []))
    if not names or not all(names) or len({name.lower() for name in names}) < len(names):
        raise SourceError(
            f"{path}: the first line is {names}; expected the columns' names, all different"
        )
    schema = pa.schema([(name, pa.string()) for name in names])
    return schema, _batches(rows, schema)


def _batches(rows: _Rows, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    data = iter(rows)
    next(data)
    for part in bounded(data):
        for line, row in part:
            if len(row) != len(schema):
                rows.begin = line.number
                raise rows.error(f"expected {len(schema)} fields, found {len(row)}")
        columns = zip(*(row for _, row in part), strict=True)
        yield pa.RecordBatch.from_arrays([_texts(column) for column in columns], schema=schema)


def _texts(values: tuple[str, ...]) -> pa.Array:
    if "" in values:
        return pa.array([value or None for value in values], pa.string())
    return pa.array(values, pa.string())


def _plain(error: csv.Error) -> str:
    message = str(error)
    if "new-line character" in message:
        return "a carriage return inside of a line; expected lines that end in \\n or \\r\\n"
    if "unexpected end" in message:
        return "a quote opens here and is not closed"
    if "field larger" in message:
        return f"a field of more than {LONGEST:,} characters; a quote may not be closed"
    return message
