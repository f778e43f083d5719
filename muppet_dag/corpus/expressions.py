"""An entry's SQL expressions: as they are run, and what DuckDB's own parser says of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from muppet_dag.catalogue import Task
from muppet_dag.corpus.schema import SQL_TYPES

if TYPE_CHECKING:
    import duckdb

Node = dict[str, Any]

#: Types to which raw values are brought before they are looked at: a start is not rounded, and
#: labels and scores stay as they are.
_RAW_TYPES = {
    **SQL_TYPES, "label": "", "score": "", "answers": "STRUCT(text VARCHAR, start DOUBLE)[]",
}  # fmt: skip

#: What stands for ``CAST(operand AS INTEGER)``: where the cast would round, it fails with a value
#: that says so. ``TRY_CAST`` then gives NULL.
_EXACT = (
    "CASE WHEN TRY_CAST(operand AS DOUBLE) <> TRY_CAST(operand AS INTEGER) "
    "THEN CAST(CAST(operand AS VARCHAR) || ' would be rounded' AS INTEGER) "
    "ELSE CAST(operand AS INTEGER) END"
)
_WHOLE = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER",
    "UBIGINT", "UHUGEINT", "INT", "INT1", "INT2", "INT4", "INT8", "INT16", "INT32", "INT64",
    "INT128", "SHORT", "LONG", "SIGNED", "INTEGRAL", "UINT8", "UINT16", "UINT32", "UINT64",
}  # fmt: skip


#: Table functions over what a row holds.
_ROW_TABLES = {"unnest", "range", "generate_series", "json_each", "json_tree"}
#: What the clock says, written without brackets.
_CLOCKS = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}


class NotOneExpression(Exception):
    """The text is no SQL expression over one row, or more than one."""


def typed(task: Task, name: str) -> str:
    """The entry's expression for a unified column, in the type in which it is looked at."""
    if name not in task.columns:
        return "NULL"
    kind, sql = _RAW_TYPES[name], enclosed(task.columns[name])
    return f"CAST({sql} AS {kind})" if kind else sql


def enclosed(sql: str) -> str:
    """An entry's expression in brackets. It may end in a comment, and its casts never round.

    Raises NotOneExpression: what closes the bracket itself could be anything.
    """
    return f"({exact(sql)}\n)"


def require_expressions(task: Task) -> None:
    """Raise NotOneExpression unless each of the entry's texts is a single SQL expression."""
    for sql in (*task.columns.values(), *task.drop.values()):
        _parsed(sql)


@lru_cache(maxsize=1024)
def exact(sql: str) -> str:
    """The same expression, in which no cast to a whole number rounds; others stay as written.
    Raises NotOneExpression."""
    node = _parsed(sql)
    if not any(_is_whole_cast(each) for each in _nodes(node)):
        return sql
    return _written(_replaced(node, _is_whole_cast, _exact_cast))


@lru_cache(maxsize=1024)
def columns(sql: str) -> frozenset[tuple[str, ...]]:
    """Paths of the columns that an expression reads, in lower case; parameters of its own lambdas
    may be among them. Raises NotOneExpression."""
    names = (n["column_names"] for n in _nodes(_parsed(sql)) if n.get("class") == "COLUMN_REF")
    return frozenset(tuple(name.lower() for name in path) for path in names)


def names_in(sql: str) -> frozenset[str]:
    """Every name that an expression may mean a raw column by, in lower case."""
    return frozenset(name for path in columns(sql) for name in path)


def _parsed(sql: str) -> Node:
    """The syntax tree of a single expression. Raises NotOneExpression.

    It is one with brackets around it and without: ``a) AS b, (c`` is none, nor is an empty text.
    """
    _only(f"SELECT {sql}\n")
    node = _only(f"SELECT ({sql}\n)")
    _require_one_row(node)
    return node


def _require_one_row(node: Node) -> None:
    """Raise NotOneExpression where a value is not that of the row alone: the same rows must give
    the same shards, and no entry may look around on the machine."""
    for each in _nodes(node):
        table = each.get("table_name") or each.get("function", {}).get("function_name", "")
        if each.get("type") in ("BASE_TABLE", "TABLE_FUNCTION") and table not in _ROW_TABLES:
            raise NotOneExpression(f"it reads the table {table!r}, not the row alone")
        name, path = each.get("function_name"), each.get("column_names") or []
        if (name and name in _changing()) or (len(path) == 1 and path[0].lower() in _CLOCKS):
            raise NotOneExpression(f"{name or path[0]} may give another value each time")


@lru_cache(maxsize=1)
def _changing() -> frozenset[str]:
    """Functions whose value depends on more than their arguments: the time, chance, settings."""
    names = _parser().execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE stability <> 'CONSISTENT' AND function_name <> 'error'"
    )
    return frozenset(name for (name,) in names.fetchall()) | {"ago", *_CLOCKS}


def _only(query: str) -> Node:
    """The expression of a query that has nothing but one."""
    tree, expected = _tree(query), _tree("SELECT 1")
    if tree["error"]:
        raise NotOneExpression(tree["error_message"])
    expressions, _ = (each["statements"][0]["node"].pop("select_list", []) for each in (
        tree, expected))  # fmt: skip
    if tree != expected or len(expressions) != 1:
        raise NotOneExpression("more than one expression")
    return expressions[0]


def _tree(query: str) -> Node:
    return json.loads(_parser().execute("SELECT json_serialize_sql(?)", [query]).fetchone()[0])


def _written(node: Node) -> str:
    tree = _tree("SELECT 1")
    tree["statements"][0]["node"]["select_list"] = [node]
    (sql,) = _parser().execute("SELECT json_deserialize_sql(?)", [json.dumps(tree)]).fetchone()
    return sql.removeprefix("SELECT ")


def _parser() -> duckdb.DuckDBPyConnection:
    return _database().cursor()


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(config={"threads": 1, "enable_external_access": "false"})


def _nodes(node: Any) -> Iterator[Node]:
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node
    if isinstance(node, dict | list):
        for child in children:
            yield from _nodes(child)


def _replaced(node: Any, matches: Callable[[Node], bool], by: Callable[[Node], Node]) -> Any:
    """The tree with every node that matches replaced, the innermost first."""
    if isinstance(node, list):
        return [_replaced(each, matches, by) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _replaced(value, matches, by) for key, value in node.items()}
    return by(node) if matches(node) else node


def _is_whole_cast(node: Node) -> bool:
    kind = node.get("type_expr") or {}
    cast = node.get("class") == "CAST" and not kind.get("children")
    return cast and str(kind.get("type_name", "")).upper() in _WHOLE


def _exact_cast(cast: Node) -> Node:
    """``_EXACT`` over the operand and type of a cast; a TRY_CAST stays one."""

    def is_operand(node: Node) -> bool:
        return node.get("column_names") == ["operand"]

    def retyped(node: Node) -> Node:
        same = {"type_expr": cast["type_expr"]}
        return node | same | ({"try_cast": True} if cast["try_cast"] else {})

    typed = _replaced(_parsed(_EXACT), _is_whole_cast, retyped)
    return _replaced(typed, is_operand, lambda _: deepcopy(cast["child"])) | {
        "alias": cast["alias"]
    }
