"""Whatever is wrong with an entry's SQL, the message names the key, the expression and the row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.catalogue.task import Task, classification, files, hub
from muppet_dag.corpus.expressions import exact
from muppet_dag.corpus.normalize import normalize
from muppet_dag.errors import BadData, MuppetError

ROWS = {
    "text": ["one", "two", "three", "four"],
    "label": ["0", "1", "0", "1"],
    "number": ["1", "2", "x", "4.5"],
    "when": ["2020-01-01", "2021-02-03", "2020-02-30", "2020-01-01"],
    "pattern": ["a", "b", "(", "c"],
    "size": [1, 2, 2_147_483_647, 4],
    "names": [["a"], ["b"], ["c"], ["d"]],
}
#: Expressions that fit no column of that kind, whatever the rows hold.
UNFIT = [
    "nosuch", "text +", "text)", "(text", "text; DROP TABLE x",
    "text FROM x", "nosuch(text)", "max(size)", "text.nosuch", "CAST(text AS NOSUCH)", "",
    "1) AS a, (2", "text WHERE true", "'open", "-- nothing", "sum(size) OVER nosuch",
    "(SELECT nosuch)", "list_transform(names, x -> x)", "text AS t", "names + 1", "NOT",
    "regexp_matches(text, '(')", "\"text", "$1", "?",
    "uuid()", "CAST(random() AS VARCHAR)", "CAST(Current_Date AS VARCHAR)", "text || NOW()",
    "current_setting('temp_directory')", "(SELECT max(text) FROM raw)",
    "(SELECT min(value) FROM duckdb_settings())", "list_transform(names, lambda n: uuid())[1]",
]  # fmt: skip
#: Expressions that fail on one row, that row, and a value to see in the message.
FAILING = [
    ("CAST(number AS INTEGER)", 2, "x"), ("number::DOUBLE", 2, "x"),
    ("CAST('when' || \"when\" AS VARCHAR) || CAST(\"when\" AS DATE)", 2, "2020-02-30"),
    ("strptime(\"when\", '%Y-%m-%d')", 2, "2020-02-30"),
    ("size::INTEGER + 1::INTEGER", 2, "2147483647"), ("regexp_matches(text, pattern)", 2, "("),
    ("CASE WHEN size = 4 THEN CAST(number AS INTEGER) END", 3, "4.5"),
    ("list_transform([number], lambda n: CAST(n AS INTEGER))[1]", 2, "x"),
    ("CAST(size AS TINYINT)", 2, "2147483647"), ("if(size = 4, error('no'), text)", 3, "4"),
    ("CAST(number AS INTEGER) -- as it is", 2, "x"),
]  # fmt: skip
KEYS = ["text", "query", "label", "id", "drop"]


def entry(key: str, sql: str) -> Task:
    columns = {"text": "text", "label": "label"} | ({key: sql} if key != "drop" else {})
    drop = {"it's bad": sql} if key == "drop" else {}
    task = classification(
        hub("o/e", validation=None), classes=("a", "b"), drop=drop, **columns
    )  # fmt: skip
    return replace(task, name="mine")


def refusal(task: Task, rows: dict = ROWS) -> BadData:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "raw.parquet"
        pq.write_table(pa.table(rows), path)
        with pytest.raises(BadData) as caught:
            normalize(task, {"train": [path]}, Path(folder))
    return caught.value


def about(error: BadData, key: str, sql: str) -> str:
    """The message, which is that of an expression and not that of a file."""
    message = str(error)
    assert "cannot be read" not in message and (error.task, error.split) == ("mine", "train")
    assert error.column == (key if key != "drop" else 'drop["it\'s bad"]')
    assert " ".join(sql.split()).replace("'", "''") in message
    return message


@settings(max_examples=15, deadline=None)
@given(key=st.sampled_from(KEYS), sql=st.sampled_from(UNFIT))
def test_an_expression_that_does_not_fit_is_named(key, sql):
    message = about(refusal(entry(key, sql)), key, sql)
    there = "The raw columns are now: text, label, number"
    assert there in message or "gives one value for each row" in message


@settings(max_examples=12, deadline=None)
@given(key=st.sampled_from(["text", "query", "id", "drop"]), case=st.sampled_from(FAILING))
def test_an_expression_that_fails_is_named_with_its_row_and_value(key, case):
    sql, row, value = case
    sql = f"({sql}\n) IS NOT NULL" if key == "drop" else f"CAST(({sql}\n) AS VARCHAR)"
    error = refusal(entry(key, sql))
    assert repr(value)[1:-1] in about(error, key, sql)
    assert error.row == row


@settings(max_examples=15, deadline=None)
@given(sql=st.text(st.sampled_from("text'\"()[],;-+*:= 1$?\n\x00é{}<>%"), min_size=1, max_size=12))
def test_any_text_is_an_expression_or_named(sql):
    """Whatever is written: shards, or a refusal that is not about a file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "raw.parquet"
        pq.write_table(pa.table(ROWS), path)
        try:
            normalize(entry("query", sql), {"train": [path]}, Path(folder))
        except BadData as error:
            assert error.column == "query" and "cannot be read" not in str(error)


def test_a_value_of_the_wrong_type_is_named(tmp_path):
    """A result that no column can hold, and one that DuckDB has no text for."""
    assert refusal(entry("text", "NULL::INTEGER")).column is None  # all is blank: no row is left
    task = replace(entry("text", "text"), columns={"text": "text", "label": "[label]"})
    assert refusal(task).column == "label"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_damaged_file_is_still_the_files_fault(tmp_path, ending):
    path = tmp_path / f"raw{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"text": ["a"] * 5000, "label": ["0"] * 5000}), path)
        content = path.read_bytes()
        path.write_bytes(content[:4] + b"\xff" * 60 + content[64:])
    else:
        good, bad = ("text,label\n", "a,0,9\n") if ending == ".csv" else ("", "{oops\n")
        path.write_text(good + bad)
    task = classification(
        files(str(path)), text="text", label="CAST(label AS INTEGER)", classes=("a", "b")
    )
    with pytest.raises(MuppetError, match="cannot be read"):
        normalize(replace(task, name="mine"), {"train": [path]}, tmp_path)


@pytest.mark.parametrize(
    ("value", "whole"),
    [("3.5", False), ("3.0", True), (" 3 ", True), ("-0.5", False), ("1e3", True), ("x", False)],
)
@pytest.mark.parametrize("cast", ["CAST({} AS INTEGER)", "{}::BIGINT", "CAST({} AS SHORT)"])
def test_casts_never_round(value, whole, cast):
    import duckdb

    with duckdb.connect() as con:
        for operand in ("v", "CAST(v AS VARCHAR)", "nullif(v, '')"):
            sql = f"SELECT {exact(cast.format(operand))} FROM (SELECT ?::VARCHAR AS v)"
            tried = sql.replace("CAST(", "TRY_CAST(") if "::" not in cast else None
            if whole:
                assert con.execute(sql, [value]).fetchone() == (int(float(value)),)
                continue
            with pytest.raises(duckdb.ConversionException):
                con.execute(sql, [value])
            if tried and operand == "v":
                sql = f"SELECT {exact(cast.format(operand).replace('CAST', 'TRY_CAST'))} "
                result = con.execute(f"{sql} FROM (SELECT ?::VARCHAR AS v)", [value])
                assert result.fetchone() == (None,)


def test_a_cast_that_would_round_says_what_to_write():
    message = about(refusal(entry("drop", "CAST(number AS INTEGER) >= 4"), {
        **ROWS, "number": ["1", "2", "3", "4.5"],
    }), "drop", "CAST(number AS INTEGER) >= 4")  # fmt: skip
    assert "row 3" in message and "4.5 would be rounded" in message and "AS DOUBLE" in message
