"""Checks find what is wrong with shards, in numbers and rows, and pass what is right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from muppet_dag import catalogue
from muppet_dag.corpus import shards
from muppet_dag.corpus.quality import CHECKS, Finding, Refused, describe, examine, require
from muppet_dag.corpus.schema import SCHEMA

SST2 = replace(catalogue.get("sst2"), rows={"train": 100, "validation": 50})


def facts(train: int = 100, validation: int = 50, missing: tuple[str, ...] = ()) -> dict[str, Any]:
    splits = {"train": {"rows_in": train}, "validation": {"rows_in": validation}}
    kept = {split: counts for split, counts in splits.items() if split not in missing}
    return {"splits": kept, "missing": list(missing)}


def folder(tmp_path: Path, rows: list[dict], split: str = "train") -> Path:
    tmp_path.mkdir(exist_ok=True)
    blank = dict.fromkeys(SCHEMA.names)
    rows = [{**blank, "id": str(i), **row} for i, row in enumerate(rows)]
    with shards.ShardWriter(tmp_path, split) as writer:
        writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return tmp_path


def texts(count: int = 100, **columns: list) -> list[dict]:
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(count)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=False):
            row[name] = value
    return rows


def check(name: str, tmp_path: Path, rows: list[dict], counts=None, task=SST2) -> Finding:
    findings = {f.name: f for f in examine(task, folder(tmp_path, rows), counts or facts())}
    assert list(findings) == list(CHECKS)
    assert all(findings[each].blocking == check.blocking for each, check in CHECKS.items())
    return findings[name]


@pytest.mark.parametrize("name", ["sst2", "stsb", "commonsense_qa", "squad_v2", "aeslc"])
def test_the_samples_pass_all_but_the_official_row_count(bench, name):
    artefact = bench.shards(name)
    findings = examine(catalogue.get(name), artefact.path, artefact.facts)
    assert [f.name for f in findings if not f.passed] == ["row_count"]
    known = examine(catalogue.get(name), artefact.path, artefact.facts, made_up=True)
    assert all(f.passed for f in known), "made-up rows have no official number"
    assert "made-up" in next(f.note for f in known if f.name == "row_count")


def test_one_class_for_nearly_all_rows_is_worth_a_look_and_no_more(tmp_path):
    finding = check("balance", tmp_path, texts(label=[0] + [1] * 99))
    assert not finding.passed and not finding.blocking
    assert finding.numbers == {"largest_share": 0.99} and "99.0%" in finding.note
    require(SST2, tmp_path, facts())


def test_a_refusal_says_what_lifts_it(tmp_path):
    with pytest.raises(Refused, match=r"Rows of two classes or more are needed: look at label="):
        require(SST2, folder(tmp_path / "one", texts(label=[1] * 100)), facts())
    before = {"splits": {"train": {"rows": 1000}}}
    now = {"splits": {"train": {"rows": 100, "rows_in": 100}}, "missing": []}
    with pytest.raises(Refused, match="raise the entry's version"):
        require(SST2, folder(tmp_path / "few", texts()), now, before)


def test_a_class_without_rows_is_named(tmp_path):
    finding = check("labels", tmp_path, texts(label=[0] * 100))
    assert not finding.passed and "positive" in finding.note


@pytest.mark.parametrize(("count", "passed"), [(100, True), (99, True), (97, False), (103, False)])
def test_rows_are_counted_against_the_official_number(tmp_path, count, passed):
    finding = check("row_count", tmp_path, texts(), facts(train=count))
    assert finding.passed == passed and not finding.blocking
    assert (finding.numbers["train"], finding.numbers["train_official"]) == (count, 100)


def test_carved_splits_are_counted_as_a_whole(tmp_path):
    splits = {"train": "train[5%:]", "validation": "train[:5%]"}
    task = replace(SST2, dataset=replace(SST2.dataset, splits=splits), rows={"train": 100})
    finding = check("row_count", tmp_path, texts(), facts(95, 5), task)
    assert finding.passed and finding.numbers == {"train": 100, "train_official": 100}


def test_a_split_that_the_source_lacks_is_told(tmp_path):
    finding = check("splits", tmp_path, texts(), facts(missing=("validation",)))
    assert not finding.passed and "validation" in finding.note


@pytest.mark.parametrize(("times", "passed"), [(5, True), (8, False)])
def test_repeated_rows_are_counted_and_shown(tmp_path, times, passed):
    finding = check("duplicates", tmp_path, texts(text=["again"] * times))
    assert finding.passed == passed
    assert finding.numbers == {"duplicates": times - 1, "share": (times - 1) / 100}
    assert finding.rows[0]["text"] == "again" and finding.rows[0]["times"] == times


def test_many_duplicates_are_counted_exactly_over_batches_and_files(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "FILE_ROWS", 2 * shards.BATCH_ROWS)
    texts_ = [f"text {i % 7}" if i % 3 == 0 else f"alone {i}" for i in range(30_000)]
    finding = check("duplicates", tmp_path, texts(30_000, text=texts_))
    assert len(shards.files(tmp_path, "train")) == 2
    extra = len(texts_) - len(set(texts_))
    assert finding.numbers == {"duplicates": extra, "share": extra / 30_000} and not finding.passed
    most = Counter(texts_).most_common(5)  # of equally many those that come first
    assert [(row["text"], row["times"]) for row in finding.rows] == most
    assert [row["id"] for row in finding.rows] == [str(texts_.index(text)) for text, _ in most]


def test_the_candidates_and_their_order_tell_questions_apart(tmp_path):
    choices = [["a", "b"], ["b", "a"], ["ab"], ["a", "b"], ["a", "", "b"]]
    rows = [{"text": "", "query": "which?", "choices": each, "label": 0} for each in choices]
    finding = check("duplicates", tmp_path, rows, task=replace(SST2, family="commonsense"))
    assert finding.numbers["duplicates"] == 1 and [row["id"] for row in finding.rows] == ["0"]


def test_equal_texts_with_other_questions_are_no_duplicates(tmp_path):
    rows = texts(text=["same"] * 100, query=[f"question {i}" for i in range(100)])
    assert check("duplicates", tmp_path, rows).numbers["duplicates"] == 0


@pytest.mark.parametrize("choices", [["a", " "], [""]])
def test_an_empty_candidate_is_found(tmp_path, choices):
    rows = texts(choices=[["a", "b"]] * 3 + [choices])
    finding = check("empty_text", tmp_path, rows, task=replace(SST2, family="commonsense"))
    assert not finding.passed and finding.numbers == {"rows": 1}
    assert finding.rows[0]["id"] == "3"


def test_a_row_with_nothing_to_read_is_found_in_any_split(tmp_path):
    folder(tmp_path, texts(text=["fine", " "]), "validation")
    finding = check("empty_text", tmp_path, texts())
    assert not finding.passed and [row["id"] for row in finding.rows] == ["1"]


def test_of_many_empty_rows_the_first_five_are_shown(tmp_path):
    folder(tmp_path, texts(9, text=["\n"] * 9), "validation")
    finding = check("empty_text", tmp_path, texts(10_000, text=["fine"] * 9_997 + [" "] * 3))
    assert finding.numbers == {"rows": 12} and not finding.passed
    assert [row["id"] for row in finding.rows] == ["9997", "9998", "9999", "0", "1"]


def test_a_description_tells_classes_lengths_and_a_few_rows(bench):
    artefact = bench.shards("sst2")
    description = describe(catalogue.get("sst2"), artefact.path)
    train = shards.read(artefact.path, "train")
    lengths = [len(text) for text in train["text"].to_pylist()]
    assert description["classes"] == {"negative": 48, "positive": 48}
    assert (description["text_length"]["min"], description["text_length"]["max"]) == (
        min(lengths),
        max(lengths),
    )
    assert [row["id"] for row in description["rows"]] == train["id"].to_pylist()[:5]
    assert all(value is not None for row in description["rows"] for value in row.values())


def test_text_lengths_are_those_of_all_rows(tmp_path):
    lengths = [1] * 9_000 + [50] * 6_000 + [400] * 4_000 + [9_000] * 1_000
    folder(tmp_path, texts(20_000, text=["é" * length for length in lengths]))
    description = describe(SST2, tmp_path)
    assert description["text_length"] == {"min": 1, "median": 50, "p95": 400, "max": 9_000}
    assert description["classes"] == {"negative": 10_000, "positive": 10_000}


def test_long_texts_are_shown_cut(tmp_path):
    folder(tmp_path, texts(text=["x" * 1000]))
    assert len(describe(SST2, tmp_path)["rows"][0]["text"]) == 160
