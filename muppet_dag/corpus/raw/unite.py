"""Parquet files of one split as one table, if their columns can be one without a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from muppet_dag.corpus.database import identifier, listed

if TYPE_CHECKING:
    import duckdb
    from duckdb.sqltypes import DuckDBPyType

_SIGNED = ("tinyint", "smallint", "integer", "bigint", "hugeint")
_UNSIGNED = ("utinyint", "usmallint", "uinteger", "ubigint")
#: Whole numbers up to 32 bit: a DOUBLE holds each of them.
_SHORT = (*_SIGNED[:3], *_UNSIGNED[:3])


@dataclass(frozen=True)
class Parquet:
    """A Parquet file: where it is read, what the user calls it, and its columns.

    ``columns`` are the file's names, DuckDB's (which differ where two are equal) and the types.
    """

    path: Path
    named: Path
    columns: tuple[tuple[str, str, DuckDBPyType], ...]
    row_bytes: int

    @classmethod
    def open(cls, con: duckdb.DuckDBPyConnection, path: Path, named: Path) -> Parquet:
        """Read what a file says of itself."""
        metadata = pq.read_metadata(path)
        names = metadata.schema.to_arrow_schema().names
        relation = con.sql(f"FROM {_read([path])}")
        columns = tuple(zip(names, relation.columns, relation.types, strict=True))
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        sizes = [group.total_byte_size // max(1, group.num_rows) for group in groups]
        return cls(path, named, columns, max([1, *sizes]))

    @property
    def types(self) -> dict[str, DuckDBPyType]:
        """The types by name in lower case, as DuckDB compares names."""
        return {name.lower(): kind for name, _, kind in self.columns}


def united(con: duckdb.DuckDBPyConnection, files: Sequence[Parquet]) -> tuple[str, dict[str, str]]:
    """The SQL of all rows in order, and what is wrong with columns that it leaves out.

    A column is left out where two of a file have its name, a file has none, or the types of the
    files have no common one that holds every value exactly.
    """
    unusable: dict[str, str] = {}
    kinds: dict[str, str] = {}
    for name, _, _ in (column for each in files for column in each.columns):
        if name not in kinds and name not in unusable:
            try:
                kinds[name] = _common(con, files, name)
            except ValueError as error:
                unusable[name] = str(error)
    if len({each.columns for each in files}) == 1 and not unusable:
        return f"SELECT * FROM {_read([each.path for each in files])}", {}
    if not kinds:
        kinds = {"no usable column": "VARCHAR"}  # whatever an entry reads, its error says why
    return " UNION ALL ".join(_select(each, kinds) for each in files), unusable


def _read(paths: Sequence[Path]) -> str:
    """What is text in all but its annotation is text: ``binary_as_string``."""
    return f"read_parquet({listed(paths)}, hive_partitioning = false, binary_as_string = true)"


def _select(file: Parquet, kinds: dict[str, str]) -> str:
    own = {name.lower(): theirs for name, theirs, _ in file.columns}
    columns = [
        f"CAST({identifier(own[name.lower()]) if name.lower() in own else 'NULL'} AS {kind}) "
        f"AS {identifier(name)}"
        for name, kind in kinds.items()
    ]
    return f"SELECT {', '.join(columns)} FROM {_read([file.path])}"


def _common(con: duckdb.DuckDBPyConnection, files: Sequence[Parquet], name: str) -> str:
    """The type that holds every value of a column in all files. ValueError if there is none."""
    folded = name.lower()
    for each in files:
        count = sum(other.lower() == folded for other, _, _ in each.columns)
        if count != 1:
            problem = f"stands {count} times in" if count else "is missing in"
            raise ValueError(f"{problem} {each.named.name}")
    kind, first = files[0].types[folded], files[0]
    for each in files[1:]:
        wider = _wider(kind, each.types[folded])
        if wider is None:
            raise ValueError(
                f"is {kind} in {first.named.name} and {each.types[folded]} in {each.named.name}"
            )
        kind = wider
    for each in files if str(kind) == "DOUBLE" else ():
        _require_exact(con, each, name)
    return str(kind)


def _require_exact(con: duckdb.DuckDBPyConnection, file: Parquet, name: str) -> None:
    """Whole numbers that become fractions stay what they are."""
    if file.types[name.lower()].id not in ("bigint", "hugeint", "ubigint"):
        return
    column = next(theirs for own, theirs, _ in file.columns if own.lower() == name.lower())
    rows = f"row_number() OVER () - 1, {identifier(column)} AS value FROM {_read([file.path])}"
    rounded = f"FROM (SELECT {rows}) WHERE value::DOUBLE::HUGEINT <> value LIMIT 1"
    if row := con.execute(rounded).fetchone():
        raise ValueError(
            f"has fractions in other files, and {row[1]} in row {row[0]} of {file.named.name} "
            "would be rounded"
        )


def _wider(one: DuckDBPyType, other: DuckDBPyType, nested: bool = False) -> DuckDBPyType | None:
    """A type that holds the values of both; None if none does.

    Not nested, a large whole number may not fit among fractions: its value decides.
    """
    from duckdb.sqltypes import DOUBLE, VARCHAR

    if one == other or "null" in (one.id, other.id):
        return other if one.id == "null" else one
    ids, whole = {one.id, other.id}, {*_SIGNED, *_UNSIGNED}
    if one.id == other.id and one.id in ("list", "struct"):
        return _nested(one, other)
    if ids <= whole:
        return _whole(one.id, other.id)
    if ids <= {*whole, "float", "double"}:
        return DOUBLE if not nested or ids <= {*_SHORT, "float", "double"} else None
    texts = ids <= {"varchar", "enum", *whole} and "JSON" not in (str(one), str(other))
    return VARCHAR if texts else None


def _nested(one: DuckDBPyType, other: DuckDBPyType) -> DuckDBPyType | None:
    from duckdb.sqltypes import DuckDBPyType

    names = [[name for name, _ in each.children] for each in (one, other)]
    pairs = zip(one.children, other.children, strict=False)
    kinds = [_wider(mine, theirs, nested=True) for (_, mine), (_, theirs) in pairs]
    if names[0] != names[1] or any(kind is None for kind in kinds):
        return None
    if one.id == "list":
        return DuckDBPyType(f"{kinds[0]}[]")
    fields = zip(map(identifier, names[0]), kinds, strict=True)
    return DuckDBPyType(f"STRUCT({', '.join(f'{name} {kind}' for name, kind in fields)})")


def _whole(one: str, other: str) -> DuckDBPyType:
    from duckdb.sqltypes import DuckDBPyType

    if one in _UNSIGNED and other in _UNSIGNED:
        return DuckDBPyType(max(one, other, key=_UNSIGNED.index).upper())
    # What has no sign needs the next type that has one.
    ranks = [_SIGNED.index(i) if i in _SIGNED else _UNSIGNED.index(i) + 1 for i in (one, other)]
    return DuckDBPyType(_SIGNED[max(ranks)].upper())
