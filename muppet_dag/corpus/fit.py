"""An entry's expressions against the raw columns: what is text there is text, or is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from muppet_dag.catalogue import Task
from muppet_dag.corpus.explain import first_line, shown
from muppet_dag.corpus.expressions import names_in
from muppet_dag.corpus.raw.readers import RAW, Raw
from muppet_dag.errors import BadData

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_TEXTS = ("id", "text", "query", "target")
_WHOLE = (
    "tinyint", "smallint", "integer", "bigint", "hugeint",
    "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint",
)  # fmt: skip
_NUMBERS = (*_WHOLE, "float", "double", "decimal")

#: What DuckDB says of expressions that would make other rows of the rows.
_NOT_ONE_ROW = ("clause cannot contain", "UNNEST not supported", "STAR expression")

#: A list of texts in JSON: what it must be, and what it then is. Whole numbers are texts as well.
_LIST = (
    "json_type(value) = 'ARRAY' AND NOT list_has_any(json_type(value, '$[*]'), "
    "['ARRAY', 'OBJECT', 'BOOLEAN', 'DOUBLE'])"
)
_LIST_VALUE = "json_extract_string(value, '$[*]')"
#: A list of answers in JSON.
_ANSWERS = (
    "json_type(value) = 'ARRAY' AND len(json_type(value, '$[*]')) = len(list_filter("
    "json_type(value, '$[*].text'), lambda kind: kind = 'VARCHAR')) AND "
    "len(json_type(value, '$[*]')) = len(list_filter(json_type(value, '$[*].start'), "
    "lambda kind: kind IN ('UBIGINT', 'BIGINT', 'DOUBLE')))"
)
_ANSWERS_VALUE = """json_transform_strict(value, '[{"text":"VARCHAR","start":"DOUBLE"}]')"""


@dataclass(frozen=True)
class Fitted:
    """A task whose expressions were fitted to the raw rows; ``json`` says of which columns the
    cells hold JSON, and what it must be."""

    task: Task
    json: dict[str, tuple[str, str]]


def fitted(raw: Raw, task: Task, role: str) -> Fitted:
    """The task with expressions that give text for what is text.

    Lists in JSON, as CSV holds them, are parsed as JSON. BadData, with key, expression and type,
    for what is no text, and for columns that the files do not hold in one way.
    """
    columns, cells = {}, {}
    for reason, sql in task.drop.items():
        _type(raw, task, role, f"drop[{reason!r}]", sql)
    for name, sql in task.columns.items():
        kind = _type(raw, task, role, name, sql)
        columns[name] = sql
        if name in _TEXTS and not _is_text(kind):
            raise _no_text(task, role, name, sql, kind)
        if name in ("choices", "answers") and kind.id == "varchar":
            good, value = (_LIST, _LIST_VALUE) if name == "choices" else (_ANSWERS, _ANSWERS_VALUE)
            cells[name] = sql, good
            columns[name] = _parsed(sql, good, value)
        elif name == "choices" and not _is_texts(kind):
            raise _no_text(task, role, name, sql, kind)
        elif name == "answers" and kind.id != "null":
            columns[name] = _answers(task, role, sql, kind)
    return Fitted(replace(task, columns=columns), cells)


def broken_cell(raw: Raw, fit: Fitted, role: str) -> BadData | None:
    """The first cell that is not the JSON that its column needs."""
    for name, (sql, good) in fit.json.items():
        rows = f"SELECT row_number() OVER () - 1 AS row, ({sql}\n) AS value FROM {RAW}"
        bad = f"value IS NOT NULL AND NOT coalesce(TRY({good}), false)"
        found = raw.con.execute(f"SELECT row, value FROM ({rows}) WHERE {bad} LIMIT 1").fetchone()
        if found:
            example = '["a", "b"]' if name == "choices" else '[{"text": "a", "start": 0}]'
            return BadData(
                f"value {found[1][:200]!r}", task=fit.task.name, split=role, column=name,
                row=found[0], expected=f"a list in JSON such as {example}",
            )  # fmt: skip
    return None


def _type(raw: Raw, task: Task, role: str, key: str, sql: str) -> DuckDBPyType:
    """The type of an expression. BadData if it is more than an expression over one row, or reads
    what it may not; DuckDB's error if it fits the raw columns in no way."""
    import duckdb

    def refused(problem: str, expected: str) -> BadData:
        return BadData(
            f"{shown(key, sql)} {problem}",
            task=task.name,
            split=role,
            column=key,
            expected=expected,
        )

    try:
        # There is no place here for what makes one row of several, or several of one.
        raw.con.sql(f"SELECT 1 FROM {RAW} WHERE ({sql}\n) IS NOT NULL")
        (kind,) = raw.con.sql(f"SELECT ({sql}\n) AS value FROM {RAW}").types
        return kind
    except ValueError as error:
        raise refused("gives several columns", "one SQL expression") from error
    except duckdb.PermissionException as error:
        problem = f"reads what lies outside of the raw rows ({first_line(error)})"
        raise refused(problem, "an expression over the raw columns") from error
    except duckdb.Error as error:
        if any(text in str(error) for text in _NOT_ONE_ROW):
            problem = f"is no expression over one row ({first_line(error)})"
            raise refused(problem, "an expression that gives one value for each row") from error
        for column, reason in raw.unusable.items():
            if column.lower() in names_in(sql):
                problem = f"reads column {column!r}, which {reason}"
                expected = "columns of one name and one type over all rows"
                raise refused(problem, expected) from error
        raise


def _is_text(kind: DuckDBPyType) -> bool:
    """Whether every value is text, or stands for itself as text: whole numbers, names, ids."""
    if kind.id == "decimal":
        return dict(kind.children)["scale"] == 0
    return str(kind) != "JSON" and kind.id in ("varchar", "enum", "uuid", "null", *_WHOLE)


def _is_texts(kind: DuckDBPyType) -> bool:
    return kind.id == "null" or (kind.id in ("list", "array") and _is_text(kind.children[0][1]))


def _parsed(sql: str, good: str, value: str) -> str:
    """The list in a cell of JSON. An error for what is none; :func:`broken_cell` tells its row."""
    one = f"CASE WHEN value IS NULL THEN NULL WHEN {good} THEN {value} ELSE error('no JSON') END"
    return f"list_transform([({sql}\n)], lambda value: {one})[1]"


def _answers(task: Task, role: str, sql: str, kind: DuckDBPyType) -> str:
    """Answers with nothing but text and start."""
    item = kind.children[0][1] if kind.id == "list" else kind
    fields = {name.lower(): each for name, each in item.children} if item.id == "struct" else {}
    if item.id == "null":
        return sql
    numbers = (*_NUMBERS, "null")
    if not {"text", "start"} <= set(fields) or not (
        kind.id == "list" and _is_text(fields["text"]) and fields["start"].id in numbers
    ):
        raise _no_text(task, role, "answers", sql, kind)
    if len(fields) == 2:
        return sql
    return f"list_transform(({sql}\n), lambda a: {{'text': a.text, 'start': a.start}})"


def _no_text(task: Task, role: str, name: str, sql: str, kind: DuckDBPyType) -> BadData:
    expected = {
        "choices": "a list of texts, or such a list in JSON",
        "answers": "a list of {'text': text, 'start': number}, or such a list in JSON",
    }.get(name, "text or whole numbers")
    return BadData(
        f"{shown(name, sql)} gives {kind}", task=task.name, split=role, column=name,
        expected=expected, fix=_advice(name, sql, kind),
    )  # fmt: skip


def _advice(name: str, sql: str, kind: DuckDBPyType) -> str:
    if name == "answers":
        return "list_transform makes such a list of another one, and list_zip of two."
    if name == "choices":
        return f"A text of several is made a list by string_split({sql}, ', ')."
    if str(kind) == "JSON":
        return f"The text in a JSON value is {sql}->>'$'."
    if kind.id in ("list", "array"):
        return f"array_to_string({sql}, ' ') joins a list."
    if kind.id == "struct":
        return f"Name a field: ({sql}).{kind.children[0][0]}."
    if kind.id == "blob":
        return f"decode({sql}) reads bytes as UTF-8."
    return f"CAST({sql} AS VARCHAR) says that it is meant."
