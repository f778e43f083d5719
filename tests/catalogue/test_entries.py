"""Every entry says what must be known, and makes of raw rows exactly what it must."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden import GOLDEN, Row

from muppet_dag import catalogue
from muppet_dag.catalogue import TASKS, Slice
from muppet_dag.catalogue.sql import find_word, from_html, let, strip, window
from muppet_dag.catalogue.task import named
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.corpus.stream import stream
from muppet_dag.samples.make import SAMPLES
from muppet_dag.samples.schema import arrow_schema

METRICS = {
    "classification": {
        "accuracy", "f1", "macro_f1", "matthews", "pearson", "spearman", "question_exact_match",
    },
    "commonsense": {"accuracy"},
    "mrc": {"exact_match", "f1", "drop_exact_match", "drop_f1", "trivia_exact_match", "trivia_f1"},
    "summarization": {"rouge1", "rouge2", "rougeL", "rougeLsum"},
}  # fmt: skip


def normalised(task: str, rows: list[Row], folder: Path) -> list[Row]:
    """What the normaliser makes of raw rows (columns left out are null), without its nulls."""
    path = folder / "train-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(SAMPLES[task][0])), path)
    batches = stream(TASKS[task], Slice("train"), [path], role="train")
    normal = [row for batch in batches for row in batch.to_pylist()]
    named = [{key: row[key] for key in (*SCHEMA.names, "dropped")} for row in normal]
    return [{key: value for key, value in row.items() if value is not None} for row in named]


# --- Every entry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TASKS)
def test_an_entry_says_what_a_user_must_know(name: str) -> None:
    task = TASKS[name]
    assert re.fullmatch(r"[a-z0-9_]+", name)
    assert task.licence and task.citation
    assert task.metrics and set(task.metrics) <= METRICS[task.family]
    assert set(task.rows) == {part.split for part in task.dataset.slices.values()}
    assert "train" in task.dataset.slices and "validation" in task.dataset.slices


@pytest.mark.parametrize("name", TASKS)
def test_golden_rows(name: str, tmp_path: Path) -> None:
    assert len(GOLDEN.get(name, [])) >= 2, f"tests/catalogue/golden holds too few rows of {name}"
    rows = normalised(name, [raw for raw, _ in GOLDEN[name]], tmp_path)
    for row, (raw, expected) in zip(rows, GOLDEN[name], strict=True):
        assert (row.get("dropped") if isinstance(expected, str) else row) == expected, raw


def test_golden_rows_are_of_tasks_there_are() -> None:
    assert set(GOLDEN) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_rows_of_nulls_neither_throw_nor_lose_rows(name: str, tmp_path: Path) -> None:
    assert len(normalised(name, [{}, {}], tmp_path)) == 2


@pytest.mark.parametrize("name", TASKS)
def test_carved_splits_do_not_overlap(name: str) -> None:
    taken: Counter[tuple[str, int]] = Counter()
    for part in TASKS[name].dataset.slices.values():
        taken.update((part.split, bucket) for bucket in range(part.low, part.high))
    assert max(taken.values()) == 1
    assert {split for split, _ in taken} == set(TASKS[name].rows)
    assert len(taken) == 100 * len(TASKS[name].rows)


def test_held_out_tasks_are_those_of_their_module() -> None:
    held_out = {name for name, task in TASKS.items() if task.held_out}
    assert held_out == set(named(vars(catalogue.held_out)))
    assert {"anli_r1", "piqa", "winogrande"} <= held_out


def test_holding_a_task_out_makes_no_row_anew() -> None:
    assert replace(TASKS["rte"], held_out=True).fingerprint == TASKS["rte"].fingerprint


# --- SQL helpers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "needle", "start"),
    [
        ("124 and 24", "24", 8),
        ("1,240 or 3.24 or 24.", "24", 17),
        ("24", "24", 0),
        ("24,000", "24", -1),
        ("from 1990s to 1990", "1990", 14),
        ("a 24-yard run", "24", 2),
        ("2424 24", "24", 5),
        ("cost US$24 once", "$24", 7),
        ("cost $245", "$24", -1),
        ("f(x) and (x)", "(x)", 1),
        ("a.b*c [d] \\e", "b*c [d] \\e", 2),
        ("axb a.b", "a.b", 4),
        ("O'Neil's", "O'Neil", 0),
        ("it is the end", "end", 10),
        ("the weekend end", "end", 12),
        ("naïve café 東京 24", "24", 14),
        ("🦊🦊 fox", "fox", 3),
        ("cafés café", "café", 6),
        ("cafe\u0301 cafe", "cafe", 6),
        ("line\nKey", "Key", 5),
        ("hahaha ha", "ha", 7),
        ("abc", "", -1),
        ("", "abc", -1),
        (None, "abc", -1),
        ("abc", None, -1),
    ],
)
def test_find_word(text: str | None, needle: str | None, start: int) -> None:
    sql = f"SELECT {find_word('t', 'n')} FROM (SELECT ?::VARCHAR AS t, ?::VARCHAR AS n)"
    assert duckdb.execute(sql, [text, needle]).fetchone() == (start,)
    if start >= 0:
        assert text[start:].startswith(needle)


def test_a_window_is_cut_between_words() -> None:
    text = "aaa bbb ccc ddd eee"
    cut = let("w", window("t", "s", 8), "w")

    def at(start: int | None) -> str | None:
        sql = f"SELECT {cut} FROM (SELECT ?::VARCHAR AS t, ?::INTEGER AS s)"
        return duckdb.execute(sql, [text, start]).fetchone()[0]

    assert at(0) == "aaa bbb"
    assert at(9) == "ccc"  # of "bb ccc d"
    assert at(17) == "eee"  # of "d eee"
    assert at(None) is None


def test_strip_takes_line_breaks() -> None:
    assert duckdb.execute(f"SELECT {strip('?')}", ["\n\t a b \r\n"]).fetchone() == ("a b",)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Let&#8217;s&nbsp;go</p><p>5 < 6</p>", "Let’s go 5 < 6"),
        ('<a href="x" type="external" /> <b>a</b>b<br/>c', "ab c"),
        ("S&amp;amp;P &lt;p&gt; &#128148;", "S&P <p> 💔"),
        ("&#x27; &#55555; &#9999999; &#; A&B", "&#x27; &#55555; &#9999999; &#; A&B"),
        ("", ""),
        (None, None),
    ],
)
def test_from_html(html: str | None, text: str | None) -> None:
    assert duckdb.execute(f"SELECT {from_html('?::VARCHAR')}", [html]).fetchone() == (text,)


# --- What golden rows cannot say ------------------------------------------------------------------


def test_label_orders_differ_between_look_alikes() -> None:
    assert TASKS["mnli"].classes == ("entailment", "neutral", "contradiction")
    assert TASKS["cb"].classes == ("entailment", "contradiction", "neutral")
    assert TASKS["rte"].classes == TASKS["wnli"].classes[::-1]


def test_mnli_has_two_validation_splits() -> None:
    for name in ("mnli", "multinli"):
        roles = {role: part.split for role, part in TASKS[name].dataset.slices.items()}
        assert roles == {"train": "train", "validation": "validation_matched",
                         "validation_mismatched": "validation_mismatched"}  # fmt: skip


def test_sciq_draws_the_place_of_the_answer_by_hash(tmp_path: Path) -> None:
    raw = {"distractor1": "x", "distractor2": "y", "distractor3": "z", "support": "",
           "correct_answer": "gold"}  # fmt: skip
    rows = normalised("sciq", [raw | {"question": f"Q{number}"} for number in range(40)], tmp_path)
    assert {row["label"] for row in rows} == {0, 1, 2, 3}
    assert all(row["choices"][row["label"]] == "gold" for row in rows)
    assert all(sorted(row["choices"]) == ["gold", "x", "y", "z"] for row in rows)


def test_triviaqa_cuts_long_documents_around_the_answer(tmp_path: Path) -> None:
    raw = {"question_id": "t", "question": "Q", "answer": {"value": "NYC", "aliases": []},
           "entity_pages": {"wiki_context": ["word " * 3000 + "in NYC now" + " word" * 3000]},
           "search_results": {"search_context": []}}  # fmt: skip
    (row,) = normalised("triviaqa", [raw], tmp_path)
    (answer,) = row["answers"]
    assert 3900 < len(row["text"]) <= 4000
    assert row["text"][answer["start"] :].startswith("NYC now")
