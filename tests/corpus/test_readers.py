"""What is read is what is named, as it was written: any file, any path, any text."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muppet_dag.catalogue.task import (
    Task,
    classification,
    commonsense,
    files,
    hub,
    mrc,
    summarization,
)
from muppet_dag.corpus import shards
from muppet_dag.corpus.normalize import normalize
from muppet_dag.corpus.raw import readers
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.corpus.stream import stream
from muppet_dag.errors import BadConfig, BadData, MuppetError

FEW = settings(
    max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HUB = hub("org/data", validation=None)
TASKS = {
    "classification": classification(
        HUB, id="id", text="text", query="query", label="label", classes=("no", "yes")
    ),
    "commonsense": commonsense(
        HUB, id="id", text="text", query="query", choices="c", label="label"
    ),
    "mrc": mrc(HUB, id="id", text="text", query="query", answers="a"),
    "summarization": summarization(HUB, id="id", text="text", target="target"),
}
TASKS = {family: replace(task, name=family) for family, task in TASKS.items()}


def task_of(path: Path, family: str = "classification", quote: str = '"', **columns: str) -> Task:
    """A task of a family over the user's own file."""
    dataset = files(str(path), quote=quote)
    task = TASKS[family]
    return replace(task, dataset=dataset, columns={**task.columns, **columns})


def read(task: Task, *paths: Path) -> list[dict[str, Any]]:
    """Rows as they leave the query, dropped ones too."""
    batches = stream(task, task.dataset.slices["train"], paths, role="train")
    return [row for batch in batches for row in batch.to_pylist()]


def refused(task: Task, *paths: Path) -> MuppetError:
    with pytest.raises(MuppetError) as caught:
        read(task, *paths)
    return caught.value


def parquet(path: Path, **columns: Any) -> Path:
    """A Parquet file with the columns of all families; those given replace the usual ones."""
    count = len(next(iter(columns.values())))
    usual = {name: ["x"] * count for name in ("id", "text", "query", "target")}
    usual |= {"label": [0] * count, "c": [["x", "y"]] * count, "a": [[]] * count}
    pq.write_table(pa.table({**usual, **columns}), path)
    return path


def lines(path: Path, *rows: dict[str, Any] | str) -> Path:
    usual = {"id": "1", "text": "x", "query": "y", "label": 0}
    dumped = (row if isinstance(row, str) else json.dumps({**usual, **row}) for row in rows)
    path.write_text("".join(f"{row}\n" for row in dumped))
    return path


# --- The text that was written --------------------------------------------------------------------

#: Text that readers like to take for something else, and any other.
ODD = ["null", "NULL", "NaN", "[1]", '["a"]', "{}", "2020-01-01", "12:30", "007", "1.50", "1e400",
       "true", "'", '"', '""', "\\", "\\N", "a,b", " x ", "#x", "caf\u00e9", "\u2028", "=1+1",
       "\ufeff", "{'a': 1}", "9223372036854775808"]  # fmt: skip
TEXT = st.sampled_from(ODD) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12
)
ROWS = st.lists(st.fixed_dictionaries({
    "id": TEXT, "text": TEXT, "query": TEXT, "target": TEXT,
    "c": st.lists(TEXT, min_size=2, max_size=3),
}), min_size=1, max_size=8)  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]], kind: str) -> tuple[Path, dict[str, str]]:
    """Rows as a file of a kind, and the expressions that differ from the usual ones."""
    if kind in ("csv", "tsv"):
        path = path.with_suffix(f".{kind}")
        with path.open("w", encoding="utf-8", newline="") as file:
            quoting = {"quoting": csv.QUOTE_NONE, "quotechar": None} if kind == "tsv" else {}
            out = csv.writer(file, delimiter="\t" if kind == "tsv" else ",", **quoting)
            out.writerow([*rows[0], "label", "a"])
            for row in rows:
                cells = {**row, "c": json.dumps(row["c"])}
                out.writerow([*(cells[name] for name in rows[0]), 0, "[]"])
        return path, {"answers": "a"}
    rows = [{**row, "label": 0, "a": []} for row in rows]
    if kind == "jsonl":
        path = path.with_suffix(".jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path, {}
    strings = {"large": pa.large_string(), "binary": pa.binary(), "view": pa.string_view(),
               "large_binary": pa.large_binary()}.get(kind, pa.string())  # fmt: skip
    columns = {name: pa.array([row[name] for row in rows], strings)
               for name in ("id", "text", "query", "target")}  # fmt: skip
    if kind == "dictionary":
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    columns |= {"c": pa.array([row["c"] for row in rows], pa.list_(strings))}
    spans = pa.list_(pa.struct([("text", pa.string()), ("start", pa.int32())]))
    columns |= {"label": [0] * len(rows), "a": pa.array([[]] * len(rows), spans)}
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"))
    return path.with_suffix(".parquet"), {}


KINDS = ["csv", "tsv", "jsonl", "parquet", "large", "view", "dictionary", "binary", "large_binary"]


@FEW
@given(rows=ROWS, family=st.sampled_from(list(TASKS)), kind=st.sampled_from(KINDS))
def test_every_text_is_the_one_that_was_written(tmp_path, rows, family, kind):
    if kind == "tsv":  # what such a file cannot hold
        rows = [{name: _without_breaks(value) for name, value in row.items()} for row in rows]
    path, columns = write(tmp_path / "rows", rows, kind)
    columns = {name: sql for name, sql in columns.items() if name in TASKS[family].columns}
    own = task_of(path, family, quote="" if kind == "tsv" else '"', **columns)
    for task in (own, TASKS[family]) if path.suffix == ".parquet" else (own,):
        result = read(task, path)
        for name in {"id", "text", "query", "target"} & set(task.columns):
            assert [row[name] for row in result] == [row[name] for row in rows]
        if family == "commonsense":
            assert [row["choices"] for row in result] == [row["c"] for row in rows]


def _without_breaks(value: Any) -> Any:
    breaks = dict.fromkeys(map(ord, "\t\r\n"), " ")
    return value.translate(breaks) if isinstance(value, str) else value


# --- The file that was named ----------------------------------------------------------------------

NAME = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"])
    | st.sampled_from("*?[]{}!-='\"% \n#~$"),
    min_size=1, max_size=12,
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)  # fmt: skip


@FEW
@given(
    folder=NAME | st.sampled_from(["label=1", "text=x", "a*", "r[1]"]),
    name=NAME,
    ending=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]),
)
def test_the_named_file_is_read_and_no_other(tmp_path_factory, ending, folder, name):
    home = tmp_path_factory.mktemp("named") / folder
    home.mkdir()
    for other in ("r1", "a", "rx"):  # what patterns would mean
        write(
            home / other,
            [dict.fromkeys(("id", "text", "query", "target"), "no") | {"c": []}],
            "csv",
        )
    row = dict.fromkeys(("id", "text", "query", "target"), "yes") | {"c": ["a", "b"]}
    source, _ = write(home / "source", [row], ending)
    path = source.rename(home / f"{name}.{ending}")
    (result,) = read(task_of(path, quote="" if ending == "tsv" else '"'), path)
    assert (result["text"], result["label"]) == ("yes", 0)


@pytest.mark.parametrize(("name", "sibling"), [("r[1]", "r1"), ("r*", "rx"), ("a?", "ab")])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_name_is_no_pattern(tmp_path, kind, name, sibling):
    rows = [
        {"id": "1", "text": text, "query": "q", "target": "t", "c": []} for text in ("own", "other")
    ]
    write(tmp_path / sibling, rows[1:], kind)
    path, _ = write(tmp_path / "it", rows[:1], kind)
    path = path.rename(tmp_path / f"{name}{path.suffix}")
    assert [row["text"] for row in read(task_of(path), path)] == ["own"]


@pytest.mark.parametrize("folder", ["label=1", "text=x", "id=7"])
def test_a_folder_is_no_column(tmp_path, folder):
    (home := tmp_path / folder / "org/data/default").mkdir(parents=True)
    path = parquet(home / "train-00000-of-00001.parquet", text=["good"], id=["a"])
    source = DirectorySource(tmp_path / folder)
    assert source.fetch(HUB, source.version(HUB))["train"] == [path]
    for task in (TASKS["classification"], task_of(path)):
        (row,) = read(task, path)
        assert (row["id"], row["text"], row["label"]) == ("a", "good", 0)


def test_a_temporary_folder_may_be_called_anything(tmp_path, monkeypatch):
    (tmp_path / "t[1] label=1").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t[1] label=1"))
    path = parquet(tmp_path / "a.parquet", text=["good"])
    assert read(TASKS["classification"], path)[0]["label"] == 0


# --- What is no text ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", TASKS)
@pytest.mark.parametrize("values", [
    [["It", "was"]], [{"a": "b"}], [1.5], [True], [b"\x01"],
])  # fmt: skip
def test_what_is_no_text_is_refused_with_column_and_type(tmp_path, family, values):
    kind = pa.binary(1) if isinstance(values[0], bytes) else None
    for column in {"id", "text", "query", "target"} & set(TASKS[family].columns):
        value = pa.array(values, kind)
        path = parquet(tmp_path / "t.parquet", **{column: value})
        if kind is not None:
            assert read(TASKS[family], path)[0][column] == "\x01"  # bytes that are UTF-8 are text
            continue
        error = refused(TASKS[family], path)
        assert isinstance(error, BadData) and error.column == column
        assert "expected text or whole numbers" in str(error)


@pytest.mark.parametrize(("values", "text"), [([1984], "1984"), ([2**63 - 1], str(2**63 - 1))])
def test_whole_numbers_are_text_as_they_are(tmp_path, values, text):
    for column in ("id", "text", "query"):
        path = parquet(tmp_path / "t.parquet", **{column: values})
        assert read(TASKS["classification"], path)[0][column] == text


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.string()])
def test_bytes_that_are_no_text_are_refused_with_their_row(tmp_path, kind):
    rows = pa.array([b"ab", None, b"c\xff", b"de"], kind if kind != pa.string() else pa.binary())
    path = parquet(
        tmp_path / "t.parquet", text=rows.view(pa.string()) if kind == pa.string() else rows
    )
    error = refused(TASKS["classification"], parquet(tmp_path / "0.parquet", text=["a"]), path)
    assert (error.column, error.row) == ("text", 3) and "t.parquet" in str(error)


@pytest.mark.parametrize("value", ['["a"', "a, b", "[1.5, 2]", '{"a": 1}', '[["a"]]', "['a', 'b']"])
def test_a_list_in_a_cell_that_is_no_json_is_refused_with_its_row(tmp_path, value):
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerows([["id", "text", "query", "c", "label"], [1, "t", "q", '["a", "b"]', 0]])
        out.writerow([2, "t", "q", value, 0])
    error = refused(task_of(path, "commonsense"), path)
    assert (error.column, error.row) == ("choices", 1)
    assert "a list in JSON" in str(error)


def test_answers_in_a_cell_are_json(tmp_path):
    path = tmp_path / "t.csv"
    spans = [{"text": "caf\u00e9", "start": 2}]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerows([["id", "text", "query", "a"], [1, "a caf\u00e9", "q", json.dumps(spans)]])
    assert read(task_of(path, "mrc"), path)[0]["answers"] == spans
    path.write_text(path.read_text().replace('"start', '"begin').replace("start", "begin"))
    error = refused(task_of(path, "mrc"), path)
    assert (error.column, error.row) == ("answers", 0)


# --- JSON lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["id", "text", "query"])
@pytest.mark.parametrize("number", [42, 2**70, 10**45])
def test_a_number_among_texts_leaves_them_alone(tmp_path, column, number):
    texts = ['say "hi"', "a\\b", "[1]", "null"]
    path = lines(tmp_path / "t.jsonl", *({column: each} for each in [*texts, number]))
    assert [row[column] for row in read(task_of(path), path)] == [*texts, str(number)]


def test_a_number_among_the_texts_of_a_list(tmp_path):
    path = lines(tmp_path / "t.jsonl", {"c": ['"a"', "b"]}, {"c": [1, "x"]})
    result = read(task_of(path, "commonsense"), path)
    assert [row["choices"] for row in result] == [['"a"', "b"], ["1", "x"]]


def test_ids_beyond_64_bit_are_exact(tmp_path):
    ids = [2**63 - 1, 2**63 - 2, 2**64 + 1, 10**37 + 1]
    path = lines(tmp_path / "t.jsonl", *({"id": each} for each in ids))
    assert [row["id"] for row in read(task_of(path), path)] == list(map(str, ids))


@pytest.mark.parametrize(("rows", "expected"), [
    ([{"text": "a"}, {"text": 1.50}], "text (line 1) and a number (line 2)"),
    ([{"text": "a"}, {"text": ["b"]}], "text (line 1) and a list (line 2)"),
    ([{"text": "a"}, {"text": True}], "text (line 1) and true or false (line 2)"),
    ([{"text": 2**60}, {"text": 0.5}], "a large whole number (line 1) and a number (line 2)"),
    ([{"text": 10**50}], "beyond 38 digits (line 1)"),
    (['{"id": 1, "text": 1e400, "query": "", "label": 0}'], "number without end (line 1)"),
    (['{"id": 1, "text": NaN, "query": "", "label": 0}'], "NaN or a number without end (line 1)"),
    ([{"Text": "b"}], "which differ by case only"),
    (['{"id": 1, "text": "a", "text": "b"}'], "line 1: the key 'text' stands twice"),
    (['{"text": "\\\\ud800"}'.replace("\\\\", "\\")], "line 1"),
    ([{}, "[1]"], "line 2: expected an object"),
    ([{}, '{"text": "b"'], "line 2, column"),
    (["", " "], "there is no row in it"),
])  # fmt: skip
def test_json_that_no_column_holds_exactly_is_refused_with_its_line(tmp_path, rows, expected):
    path = lines(tmp_path / "t.jsonl", *rows)
    assert expected in str(refused(task_of(path), path))


def test_what_no_expression_reads_bothers_nobody(tmp_path):
    odd = [{"x": 1, "m": {}, "n": [{}]}, {"x": "a", "y": [1], "Z": 1}, {"y": {"a": 1}, "z": 2}]
    path = lines(tmp_path / "t.jsonl", *odd)
    assert len(read(task_of(path), path)) == 3


def test_a_key_may_come_late_and_be_null(tmp_path):
    rows = [{}] * 9_000 + [{"late": "b"}, {"late": None}]
    path = lines(tmp_path / "t.jsonl", *rows)
    result = read(task_of(path, query="late"), path)
    assert [row["query"] for row in result[-3:]] == [None, "b", None]


# --- CSV and TSV ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [
    '"Well , he said\t1\nthen "\t0\n', 'a\t0\n"b\tc"\t1\n', 'a\t0\n"b\rc"\t1\n', 'a\t0\n"b" c\t1\n',
])  # fmt: skip
def test_quotes_in_tsv_that_join_fields_are_refused_with_the_line(tmp_path, body):
    path = tmp_path / "t.tsv"
    path.write_text(f"text\tlabel\n{body}", newline="")
    columns = {"id": "NULL", "query": "NULL"}
    line = 2 if body.startswith('"') else 3
    assert re_found(refused(task_of(path, **columns), path), f"line {line}:", 'quote = ""')
    if "\r" not in body and "b\tc" not in body:
        result = read(task_of(path, quote="", **columns), path)
        texts = [row.rsplit("\t", 1)[0] for row in body.splitlines()]
        assert [row["text"] for row in result] == texts


def re_found(error: Exception, *texts: str) -> bool:
    return all(text in str(error) for text in texts)


def test_quotes_are_one_sign_or_none():
    with pytest.raises(BadConfig, match="quote"):
        files("a.csv", quote="''")
    with pytest.raises(BadConfig, match="quote"):
        files("a.csv", quote=",")


def test_a_line_of_megabytes_is_read(tmp_path):
    path, text = tmp_path / "t.csv", "word " * 500_000
    path.write_text(f'text,label\n"{text}",0\nb,1\n')
    result = read(task_of(path, id="NULL", query="NULL"), path)
    assert [len(row["text"]) for row in result] == [len(text), 1]


def test_a_quote_that_is_not_closed_is_refused_with_its_line(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text('text,label\na,0\n"b,1\n' + "c,0\n" * 1000)
    assert "line 3: a quote opens here" in str(
        refused(task_of(path, id="NULL", query="NULL"), path)
    )


# --- Several files --------------------------------------------------------------------------------


def test_whole_numbers_and_fractions_are_not_rounded_to_the_first_type(tmp_path):
    whole = parquet(tmp_path / "0.parquet", label=[1, 0])
    half = parquet(tmp_path / "1.parquet", label=[1.0, 0.6])
    for paths in ((whole, half), (half, whole)):
        with pytest.raises(BadData, match=r"0\.6") as caught:
            (tmp_path / paths[0].stem).mkdir()
            normalize(TASKS["classification"], {"train": paths}, tmp_path / paths[0].stem)
        assert caught.value.row == (3 if paths[0] == whole else 1)
    good = parquet(tmp_path / "2.parquet", label=[1.0, 0.0])
    assert [row["label"] for row in read(TASKS["classification"], whole, good)] == [1, 0, 1, 0]


@pytest.mark.parametrize("column", ["text", "c", "label", "query"])
def test_a_file_with_nothing_but_nulls_goes_with_any_type(tmp_path, column):
    full = parquet(tmp_path / "1.parquet", text=["a", "b"])
    nulls = parquet(tmp_path / "0.parquet", **{column: pa.nulls(2)})
    for paths in ((nulls, full), (full, nulls)):
        result = read(TASKS["commonsense"], *paths)
        texts = [row["text"] for row in result]
        nothing = [None, None] if column == "text" else ["x", "x"]
        both = [*nothing, "a", "b"] if paths[0] == nulls else ["a", "b", *nothing]
        assert texts == both


@pytest.mark.parametrize(("one", "other", "expected"), [
    (pa.array([2**53 + 1]), pa.array([0.5]), "9007199254740993 in row 0 of 0.parquet"),
    (pa.array(["a"]), pa.array([0.5]), "is VARCHAR in 0.parquet and DOUBLE in 1.parquet"),
    (pa.array(["a"]), pa.array([["b"]]), "VARCHAR[] in 1.parquet"),
    (pa.array([[2**53 + 1]]), pa.array([[0.5]]), "BIGINT[] in 0.parquet"),
])  # fmt: skip
def test_types_without_a_common_one_are_refused_with_the_files(tmp_path, one, other, expected):
    paths = [
        parquet(tmp_path / f"{number}.parquet", text=each)
        for number, each in enumerate((one, other))
    ]
    error = refused(TASKS["classification"], *paths)
    assert error.column == "text" and expected in str(error)
    assert (
        len(
            read(
                replace(TASKS["classification"], columns={"text": "query", "label": "label"}),
                *paths,
            )
        )
        == 2
    )


def test_a_column_that_cannot_be_used_is_blamed_only_where_it_is_read(tmp_path):
    """Its name inside of another word is not its name."""
    columns = {"e": pa.array(["a"]), "text": pa.array(["x"])}
    other = {"e": pa.array([0.5]), "text": pa.array(["y"])}
    paths = [
        parquet(tmp_path / "0.parquet", **columns), parquet(tmp_path / "1.parquet", **other)
    ]  # fmt: skip
    task = TASKS["classification"]
    misspelt = replace(task, columns={"text": "texte", "label": "label"})
    assert "is VARCHAR in" not in str(refused(misspelt, *paths))
    reads_it = replace(task, columns={"text": "upper(E)", "label": "label"})
    assert "column 'e', which is VARCHAR in" in str(refused(reads_it, *paths))


@pytest.mark.parametrize(("one", "other"), [
    (pa.array([7], pa.int8()), pa.array([2**40])), (pa.array([7], pa.uint64()), pa.array([-7])),
    (pa.array([7]), pa.array(["b"])), (pa.array(["x"]), pa.array(["b"], pa.large_string())),
    (pa.array(["x"]).dictionary_encode(), pa.array([b"b"])),
])  # fmt: skip
def test_types_are_united_without_a_loss(tmp_path, one, other):
    paths = [
        parquet(tmp_path / f"{number}.parquet", text=each)
        for number, each in enumerate((one, other))
    ]
    values = [*one.to_pylist(), *other.to_pylist()]
    texts = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
    assert [row["text"] for row in read(TASKS["classification"], *paths)] == texts


def test_rows_of_united_files_stay_in_order(tmp_path):
    kinds = [pa.int64(), pa.int32(), pa.int64(), pa.float64()]
    paths = [
        parquet(tmp_path / f"{n}.parquet", text=[f"{n}-{i}" for i in range(5_000)],
                label=pa.array([0] * 5_000, kind))
        for n, kind in enumerate(kinds)
    ]  # fmt: skip
    texts = [row["text"] for row in read(TASKS["classification"], *paths)]
    assert texts == [f"{n}-{i}" for n in range(4) for i in range(5_000)]


def test_a_column_that_some_files_lack_is_refused_where_it_is_read(tmp_path):
    full = parquet(tmp_path / "0.parquet", text=["a"])
    pq.write_table(pq.read_table(full).drop_columns(["query"]), tmp_path / "1.parquet")
    error = refused(TASKS["classification"], full, tmp_path / "1.parquet")
    assert error.column == "query" and "is missing in 1.parquet" in str(error)
    assert len(read(TASKS["summarization"], full, tmp_path / "1.parquet")) == 2


@pytest.mark.parametrize("twin", ["text", "Text", "TEXT"])
def test_two_columns_of_one_name_are_refused_where_they_are_read(tmp_path, twin):
    table = pq.read_table(parquet(tmp_path / "t.parquet", text=["a"]))
    pq.write_table(table.append_column(twin, pa.array(["b"])), tmp_path / "t.parquet")
    error = refused(TASKS["classification"], tmp_path / "t.parquet")
    assert error.column == "text" and "stands 2 times in t.parquet" in str(error)


# --- What a declaration may read ------------------------------------------------------------------


INJECTIONS = [
    "(SELECT content FROM read_text('/etc/hostname'))",
    "(SELECT max(column0) FROM read_csv('/etc/hostname', header = false))",
    "(SELECT count(*) FROM glob('/etc/*'))", "(SELECT 1 FROM '/etc/hostname')", "getenv('HOME')",
    "(SELECT 1 FROM read_parquet('http://127.0.0.1:9/x.parquet'))",
    "text); DROP VIEW raw; SELECT (1", "text); COPY raw TO '/tmp/out.csv'; SELECT (1",
    "text); ATTACH '/tmp/x.db'; SELECT (1", "text); INSTALL httpfs; SELECT (1",
    "text); SET threads = 4; SELECT (1", "text) FROM read_text('/etc/hostname') --",
    "1) ORDER BY (1", "text FROM raw", "text, query) --", "unnest(['a', 'b'])", "max(text)", "*",
    "COLUMNS(*)", "", "?", "text /* ", "row_number() OVER ()", "-- nothing",
]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "sql"),
    [("text", sql) for sql in INJECTIONS]
    + [(key, sql) for key in ("label", "drop") for sql in (INJECTIONS[0], INJECTIONS[6], "")],
)
def test_an_expression_is_one_and_reads_the_raw_columns_only(tmp_path, key, sql):
    path = parquet(tmp_path / "t.parquet", text=["a", "b"])
    task = TASKS["classification"]
    changed = {"drop": {"bad": sql}} if key == "drop" else {"columns": {**task.columns, key: sql}}
    error = refused(replace(task, **changed), path)
    assert isinstance(error, BadData) and error.column == (key if key != "drop" else "drop['bad']")
    assert key in str(error)


@pytest.mark.parametrize(
    "sql", ["text -- as it is", "text /* a comment */", "(text)", "text || ''"]
)
def test_an_expression_may_end_in_a_comment(tmp_path, sql):
    path = parquet(tmp_path / "t.parquet", text=["a", "b"])
    task = replace(
        TASKS["classification"], columns={**TASKS["classification"].columns, "text": sql}
    )
    assert [row["text"] for row in read(task, path)] == ["a", "b"]


def test_the_database_reads_the_named_files_only(tmp_path):
    import duckdb

    path, other = (
        parquet(tmp_path / "a.parquet", text=["a"]),
        parquet(tmp_path / "b.parquet", text=["b"]),
    )
    with readers.opened([path]) as raw:
        for statement in (
            f"FROM read_parquet('{other}')", "COPY raw TO 'x.csv'", "ATTACH 'x.db'", "LOAD httpfs",
            "INSTALL httpfs", "SET enable_external_access = true", "SET threads = 9",
            "FROM read_text('/etc/hostname')", "FROM glob('/*')", "FROM read_blob('/etc/hostname')",
        ):  # fmt: skip
            with pytest.raises(duckdb.Error):
                raw.con.execute(statement)
        assert raw.con.sql("SELECT text FROM raw").fetchall() == [("a",)]


# --- Memory ---------------------------------------------------------------------------------------


def test_batches_on_disk_are_bounded_by_bytes_and_depend_on_the_rows_only(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "BATCH_BYTES", 10_000)
    texts = [chr(97 + n % 26) * (n * 37 % 3_000) + "x" for n in range(400)]
    contents = []
    for size in (7, 100, 400):
        path = parquet(tmp_path / f"{size}.parquet", text=texts)
        pq.write_table(pq.read_table(path), path, row_group_size=size)
        (tmp_path / str(size)).mkdir()
        normalize(TASKS["classification"], {"train": [path]}, tmp_path / str(size))
        batches = list(shards.batches(tmp_path / str(size), "train"))
        assert max(batch.nbytes for batch in batches) < 40_000 and len(batches) > 30
        contents.append([file.read_bytes() for file in sorted((tmp_path / str(size)).iterdir())])
    assert contents[0] == contents[1] == contents[2]


def test_row_groups_too_large_for_memory_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "GROUP", 100_000)
    monkeypatch.setattr(readers, "AT_ONCE", 50_000)
    path = parquet(tmp_path / "t.parquet", text=[f"{n} " * 500 for n in range(300)])
    with readers.opened([path]) as raw:
        assert raw.rows_at_once < 50
        sizes = [
            batch.num_rows for batch in raw.con.sql("FROM raw").to_arrow_reader(raw.rows_at_once)
        ]
    assert max(sizes) < 50 and sum(sizes) == 300
    assert [row["text"][:3] for row in read(TASKS["classification"], path)][:2] == ["0 0", "1 1"]


def test_memory_that_runs_out_names_the_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("MUPPET_MEMORY", "10MB")
    path = parquet(tmp_path / "t.parquet", text=["x" * 5_000_000] * 8)
    error = refused(TASKS["classification"], path)
    assert "MUPPET_MEMORY" in str(error)
