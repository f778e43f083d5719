"""JSON lines as Arrow batches that hold exactly what was written.

What type a column has, all rows say together. A column whose rows do not agree on one type that
holds every value exactly is left out, with the reason and the line: an entry that reads it is
refused, and one that does not is not bothered.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from muppet_dag.corpus.raw.lines import Line, bounded, lines
from muppet_dag.errors import SourceError

#: A float holds every whole number up to this one exactly.
EXACT_FLOAT = 2**53
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NAMES = {
    "wide": "a large whole number",
    "big": "a whole number beyond 64 bit",
    "huge": "a whole number beyond 38 digits",
    "beyond": "NaN or a number without end",
}


class Mixed(Exception):
    """Values of a column that no type holds exactly; the message says which and where."""


class Shape:
    """What the values of a column are, or those inside of its lists and objects."""

    __slots__ = ("fields", "first", "item")

    def __init__(self) -> None:
        self.first: dict[str, int] = {}  # the line on which each kind of value first stands
        self.item: Shape | None = None
        self.fields: dict[str, Shape] = {}

    def add(self, value: Any, line: int) -> None:
        """Note one value. Null fits every type."""
        if value is None:
            return
        kind = _kind(value)
        if kind not in self.first:
            self.first[kind] = line
        if kind == "a list":
            self.item = self.item or Shape()
            for each in value:
                self.item.add(each, line)
        elif kind == "an object":
            for name, each in value.items():
                self.fields.setdefault(name, Shape()).add(each, line)

    def type(self) -> pa.DataType | None:
        """The one type that holds all values exactly; None if there is nothing to hold. Mixed."""
        kinds = set(self.first)
        whole = {"a whole number", "wide", "big"}
        if "beyond" in kinds or kinds == {"huge"}:
            raise Mixed(self._where(kinds & {"beyond", "huge"}))
        if not kinds:
            return pa.null()
        if kinds == {"a list"}:
            item = self.item.type() if self.item else pa.null()
            return item and pa.list_(item)
        if kinds == {"an object"}:
            return self._struct()
        if "text" in kinds and kinds <= {"text", "huge", *whole}:
            return pa.string()
        if kinds <= {"a whole number", "wide"}:
            return pa.int64()
        if kinds <= whole:
            return pa.decimal128(38, 0)
        if kinds <= {"a number", "a whole number"}:
            return pa.float64()
        if kinds == {"true or false"}:
            return pa.bool_()
        raise Mixed(self._where(kinds))

    def convert(self, value: Any) -> Any:
        """A value as Arrow takes it: whole numbers among texts are texts."""
        if value is None or not self.converts:
            return value
        if isinstance(value, list):
            return [self.item.convert(each) for each in value]
        if isinstance(value, dict):
            return {name: self.fields[name].convert(each) for name, each in value.items()}
        return str(value)

    @property
    def converts(self) -> bool:
        """Whether :meth:`convert` changes anything."""
        inner = [self.item] if self.item else self.fields.values()
        return ("text" in self.first and len(self.first) > 1) or any(s.converts for s in inner)

    def _struct(self) -> pa.DataType | None:
        if len({name.lower() for name in self.fields}) < len(self.fields):
            raise Mixed(f"has keys that differ by case only: {', '.join(self.fields)}")
        types = {name: shape.type() for name, shape in self.fields.items()}
        fields = [(name, kind) for name, kind in types.items() if kind is not None]
        return pa.struct(fields) if fields else None

    def _where(self, kinds: set[str]) -> str:
        places = sorted((self.first[kind], _NAMES.get(kind, kind)) for kind in kinds)
        return "holds " + " and ".join(f"{kind} (line {line})" for line, kind in places)


def json_batches(path: Path) -> tuple[pa.Schema, dict[str, str], Iterator[pa.RecordBatch]]:
    """The schema of a file, what is wrong with columns that it leaves out, and its rows.

    SourceError, with the line, where a line is no object or says a key twice.
    """
    shapes: dict[str, Shape] = {}
    for line, row in _rows(path):
        for name, value in row.items():
            if name not in shapes:
                shapes[name] = Shape()
            shapes[name].add(value, line.number)
    fields, unusable = _fields(shapes)
    if not fields:
        reasons = "; ".join(f"{name} {reason}" for name, reason in unusable.items())
        raise SourceError(f"{path}: {reasons or 'there is no row in it'}")
    schema = pa.schema(fields)
    return schema, unusable, _batches(path, schema, shapes)


def _fields(shapes: dict[str, Shape]) -> tuple[dict[str, pa.DataType], dict[str, str]]:
    fields: dict[str, pa.DataType] = {}
    unusable: dict[str, str] = {}
    folded = [name.lower() for name in shapes]
    for name, shape in shapes.items():
        try:
            if folded.count(name.lower()) > 1:
                raise Mixed("is the name of several keys, which differ by case only")
            kind = shape.type()
        except Mixed as error:
            unusable[name] = str(error)
        else:
            if kind is None or not name:
                unusable[name] = "holds empty objects only" if name else "has no name"
            else:
                fields[name] = kind
    return fields, unusable


def _batches(path: Path, schema: pa.Schema, shapes: dict[str, Shape]) -> Iterator[pa.RecordBatch]:
    converted = [name for name in schema.names if shapes[name].converts]
    for part in bounded(_rows(path)):
        rows = [row for _, row in part]
        for row in rows if converted else ():
            row |= {name: shapes[name].convert(row.get(name)) for name in converted}
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _rows(path: Path) -> Iterator[tuple[Line, dict[str, Any]]]:
    decode = json.JSONDecoder(object_pairs_hook=_object).decode
    for line in lines(path):
        if not line.text or line.text.isspace():
            continue
        try:
            row = decode(line.text)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, found {_kind(row)}")
            if _SURROGATE.search(line.text):
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            place = f"line {line.number}, column {error.colno}"
            raise SourceError(f"{path}: {place}: no JSON ({error.msg})") from error
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}: line {line.number}: {error}") from error
        yield line, row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return values


def _kind(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return "text"
    if kind is int:
        size = abs(value)
        if size <= EXACT_FLOAT:
            return "a whole number"
        if -(2**63) <= value < 2**63:
            return "wide"
        return "big" if size < 10**38 else "huge"
    if kind is float:
        return "a number" if math.isfinite(value) else "beyond"
    return {bool: "true or false", list: "a list", dict: "an object", type(None): "null"}[kind]
