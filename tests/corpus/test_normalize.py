"""Raw rows become shards in the unified schema, every loss is counted, bad data says where."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muppet_dag import catalogue
from muppet_dag.catalogue.task import Task, classification, commonsense, hub, mrc, summarization
from muppet_dag.corpus import shards
from muppet_dag.corpus.normalize import normalize
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.errors import BadData
from muppet_dag.samples.make import table as sample

PAIRS = replace(
    classification(
        hub("org/pairs"), text="a", query="b", label="label", classes=("no", "yes"),
        drop={"too rude": "b = 'rude'"},
    ),
    name="pairs",
)  # fmt: skip
READING = replace(mrc(hub("org/read"), text="t", query="q", answers="answers"), name="read")
CHOICE = replace(
    commonsense(hub("org/pick"), query="q", choices="c", label="label"), name="pick"
)  # fmt: skip


def write(path: Path, rows: dict[str, Any] | pa.Table, names: tuple[str, ...] = ()) -> list[Path]:
    """A raw parquet file, with the feature description of the Hub if class names are given."""
    table = rows if isinstance(rows, pa.Table) else pa.table(rows)
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        metadata = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, path)
    return [path]


def pairs(count: int = 6, **columns: Any) -> dict[str, Any]:
    labels = [i % 2 for i in range(count)]
    texts = {"a": [f"first {i}" for i in range(count)], "b": [f"second {i}" for i in range(count)]}
    return {**texts, "label": labels, **columns}


def run(task: Task, tmp_path: Path, **splits: list[Path]) -> tuple[dict, dict[str, list[dict]]]:
    """Facts and rows by split."""
    folder = tmp_path / "out"
    folder.mkdir()
    facts = normalize(task, splits, folder)
    return facts, {s: shards.read(folder, s).to_pylist() for s in shards.splits(folder)}


def refused(task: Task, tmp_path: Path, **splits: list[Path]) -> BadData:
    with pytest.raises(BadData) as caught:
        run(task, tmp_path, **splits)
    return caught.value


def both(tmp_path: Path, rows: Any, names: tuple[str, ...] = ()) -> dict[str, list[Path]]:
    """The rows as training split, good rows as validation."""
    return {
        "train": write(tmp_path / "train.parquet", rows, names),
        "validation": write(tmp_path / "validation.parquet", pairs()),
    }


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("name", ["sst2", "stsb", "commonsense_qa", "squad_v2", "aeslc"])
def test_shards_have_the_unified_schema_and_every_row_an_id(bench, name):
    artefact = bench.shards(name)
    for split in shards.splits(artefact.path):
        table = shards.read(artefact.path, split)
        assert table.schema.equals(SCHEMA)
        assert table.num_rows == artefact.facts["splits"][split]["rows"] > 0
        assert len(set(table["id"].to_pylist())) == table.num_rows


def test_rows_keep_their_order_and_are_numbered_by_raw_row(tmp_path):
    files = both(tmp_path, pairs(label=[0, 1, -1, 1, None, 0]))
    _, rows = run(PAIRS, tmp_path, **files)
    assert [row["id"] for row in rows["train"]] == ["train/0", "train/1", "train/3", "train/5"]
    assert [row["text"] for row in rows["train"]] == [f"first {i}" for i in (0, 1, 3, 5)]


def test_dropped_rows_are_counted_by_reason(tmp_path):
    rows = pairs(
        8, label=[0, 1, -1, None, 0, 1, 0, 1],
        b=["x", "rude", "x", "x", "x", "rude", "x", "x"],
        a=["t", "t", "t", "t", " ", "t", "t", None],
    )  # fmt: skip
    facts, rows_by_split = run(PAIRS, tmp_path, **both(tmp_path, rows))
    assert facts["splits"]["train"] == {
        "rows_in": 8, "rows": 2, "dropped": {"too rude": 2, "unlabelled": 2, "empty text": 2},
    }  # fmt: skip
    assert len(rows_by_split["train"]) == 2


def test_unanswerable_questions_stay_and_are_counted(bench):
    facts = bench.shards("squad_v2").facts["splits"]["train"]
    answers = shards.read(bench.shards("squad_v2").path, "train")["answers"].to_pylist()
    assert facts["unanswerable"] == sum(not each for each in answers) == 96 // 3


@pytest.mark.parametrize("column", ["a", "label"])
def test_a_missing_raw_column_is_named_with_those_there_are(tmp_path, column):
    rows = pairs()
    rows[f"{column}_new"] = rows.pop(column)
    error = refused(PAIRS, tmp_path, **both(tmp_path, rows))
    assert (error.task, error.split) == ("pairs", "train")
    assert column in str(error) and f"{column}_new" in str(error)


def test_reordered_class_names_are_refused(tmp_path):
    error = refused(PAIRS, tmp_path, **both(tmp_path, pairs(), names=("yes", "no")))
    assert (error.task, error.split, error.column) == ("pairs", "train", "label")
    assert "['yes', 'no']" in str(error) and "['no', 'yes']" in str(error)


def test_another_number_of_classes_is_refused(tmp_path):
    error = refused(PAIRS, tmp_path, **both(tmp_path, pairs(), names=("no", "yes", "maybe")))
    assert "3 classes" in str(error) and error.column == "label"


def test_clearer_class_names_in_the_entry_are_fine(tmp_path):
    facts, _ = run(PAIRS, tmp_path, **both(tmp_path, pairs(), names=("0", "1")))
    assert facts["splits"]["train"]["rows"] == 6


@pytest.mark.parametrize("label", [2, 7, -2])
def test_a_label_outside_the_classes_is_named_by_its_raw_row(tmp_path, label):
    rows = pairs(label=[0, -1, 1, 0, label, 1])
    error = refused(PAIRS, tmp_path, **both(tmp_path, rows))
    place = (error.task, error.split, error.column, error.row)
    assert place == ("pairs", "train", "label", 4)
    assert re.search(rf"value '{label}'.*expected 0 to 1 \('no', 'yes'\)", str(error))


def test_a_bad_label_in_the_second_file_is_numbered_over_both(tmp_path):
    first = write(tmp_path / "one.parquet", pairs(5))
    second = write(tmp_path / "two.parquet", pairs(3, label=[0, 9, 0]))
    assert refused(PAIRS, tmp_path, train=first + second).row == 6


@pytest.mark.parametrize("before", [0, 70_000])
def test_a_value_that_cannot_be_converted_is_named_by_its_row(tmp_path, before):
    rows = pairs(before + 6, label=["0"] * (before + 3) + ["often", "1", "0"])
    error = refused(PAIRS, tmp_path, **both(tmp_path, rows))
    place = (error.task, error.split, error.column, error.row)
    assert place == ("pairs", "train", "label", before + 3)
    assert "often" in str(error) and "('no', 'yes')" in str(error)


@pytest.mark.parametrize("label", [0.5, -0.6, 1.000001])
def test_a_label_between_two_classes_is_refused_and_never_rounded(tmp_path, label):
    rows = pairs(label=[0.0, -1.0, 1.0, label, None, 0.0])
    error = refused(PAIRS, tmp_path, **both(tmp_path, rows))
    place = (error.task, error.split, error.column, error.row)
    assert place == ("pairs", "train", "label", 3)
    assert re.search(rf"value '{label}'.*expected a whole number", str(error))


def test_whole_numbers_may_be_kept_as_fractions(tmp_path):
    rows = pairs(label=[0.0, 1.0, -1.0, None, 1.0, 0.0])
    facts, rows_by_split = run(PAIRS, tmp_path, **both(tmp_path, rows))
    assert [row["label"] for row in rows_by_split["train"]] == [0, 1, 1, 0]
    assert facts["splits"]["train"]["dropped"] == {"unlabelled": 2}


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u00a0", "\u3000\n"])
def test_white_space_alone_is_no_text(tmp_path, text):
    rows = pairs(a=["first", text, f"{text}fine", None, "last", "."])
    facts, rows_by_split = run(PAIRS, tmp_path, **both(tmp_path, rows))
    assert facts["splits"]["train"]["dropped"] == {"empty text": 2}
    assert [row["text"] for row in rows_by_split["train"]] == ["first", f"{text}fine", "last", "."]


def test_a_question_that_lacks_a_candidate_is_dropped_and_counted(tmp_path):
    rows = {"q": ["?"] * 3, "c": [["a", "b"], ["a", None], [None, None]], "label": [0, 0, 1]}
    facts, rows_by_split = run(CHOICE, tmp_path, train=write(tmp_path / "t.parquet", rows))
    assert facts["splits"]["train"]["dropped"] == {"missing candidate": 2}
    assert [row["choices"] for row in rows_by_split["train"]] == [["a", "b"]]


@pytest.mark.parametrize("name", catalogue.TASKS)
def test_a_row_of_nulls_is_dropped_and_counted(tmp_path, name):
    good = sample(name, "train", 40, 1)
    nulls = pa.Table.from_pylist([{}], schema=good.schema)
    task = catalogue.get(name)
    raw = task.dataset.slices["train"].split
    counts = []
    for table in (good, pa.concat_tables([nulls, good])):
        (folder := tmp_path / str(len(counts))).mkdir()
        facts = normalize(task, {raw: write(folder / "raw.parquet", table)}, folder)
        counts.append([sum(split[key] for split in facts["splits"].values()) for key in (
            "rows_in", "rows")])  # fmt: skip
    assert counts[1] == [counts[0][0] + 1, counts[0][1]]


@pytest.mark.parametrize("start", [0, 5, 99, -1])
def test_an_answer_that_does_not_stand_at_its_place_is_refused(tmp_path, start):
    spans = [[{"text": "blue", "start": 4}], [], [{"text": "blue", "start": start}]]
    rows = {"t": ["sky blue", "grass", "sky blue"], "q": ["what?"] * 3, "answers": spans}
    error = refused(READING, tmp_path, train=write(tmp_path / "t.parquet", rows))
    assert (error.task, error.split, error.column, error.row) == ("read", "train", "answers", 2)


def test_answers_are_counted_in_characters_also_behind_other_scripts(tmp_path):
    texts = ["é日本 blue", "😀 blue"]
    spans = [[{"text": "blue", "start": text.index("blue")}] for text in texts]
    rows = {"t": texts, "q": ["what?"] * 2, "answers": spans}
    _, rows_by_split = run(READING, tmp_path, train=write(tmp_path / "t.parquet", rows))
    for row in rows_by_split["train"]:
        answer = row["answers"][0]
        assert row["text"][answer["start"] :].startswith(answer["text"])


@pytest.mark.parametrize(
    ("choices", "label", "column"), [(["only"], 0, "choices"), (["a", "b"], 2, "label")]
)
def test_a_question_without_a_real_choice_is_refused(tmp_path, choices, label, column):
    rows = {"q": ["?", "?"], "c": [["a", "b"], choices], "label": [1, label]}
    error = refused(CHOICE, tmp_path, train=write(tmp_path / "t.parquet", rows))
    assert (error.column, error.row) == (column, 1)


@pytest.mark.parametrize("score", [5.5, -1.0, float("nan")])
def test_a_score_outside_its_range_is_refused(tmp_path, score):
    rows = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [1.0, score]}
    error = refused(catalogue.get("stsb"), tmp_path, train=write(tmp_path / "t.parquet", rows))
    assert (error.column, error.row) == ("score", 1)


def test_a_split_without_any_label_is_refused_with_its_counts(tmp_path):
    error = refused(PAIRS, tmp_path, **both(tmp_path, pairs(4, label=[-1] * 4)))
    assert (error.task, error.split) == ("pairs", "train")
    assert "no row is left of 4" in str(error) and "'unlabelled': 4" in str(error)


def test_a_truncated_file_is_told_as_bad_data(tmp_path):
    files = both(tmp_path, pairs(1000))
    content = files["train"][0].read_bytes()
    files["train"][0].write_bytes(content[: len(content) // 2])
    error = refused(PAIRS, tmp_path, **files)
    assert (error.task, error.split) == ("pairs", "train")
    assert "cannot be read" in str(error)


def test_a_file_damaged_in_its_middle_is_told_as_bad_data(tmp_path):
    files = both(tmp_path, pairs(20_000))
    with open(files["train"][0], "r+b") as file:
        file.seek(8)
        file.write(b"\xff" * 2000)
    error = refused(PAIRS, tmp_path, **files)
    assert (error.task, error.split) == ("pairs", "train")


def test_a_source_without_training_rows_is_refused(tmp_path):
    error = refused(PAIRS, tmp_path, validation=write(tmp_path / "v.parquet", pairs()))
    assert (error.task, error.split) == ("pairs", "train")
    assert "no files of raw split 'train', only of validation" in str(error)


def test_a_held_out_task_may_lack_training_rows(tmp_path):
    task, folder = replace(PAIRS, held_out=True), tmp_path / "out"
    folder.mkdir()
    facts = normalize(task, {"validation": write(tmp_path / "v.parquet", pairs())}, folder)
    assert facts["missing"] == ["train"] and shards.splits(folder) == ["validation"]


def test_a_missing_evaluation_split_is_recorded(tmp_path):
    facts, rows_by_split = run(PAIRS, tmp_path, train=write(tmp_path / "t.parquet", pairs()))
    assert facts["missing"] == ["validation"] and list(rows_by_split) == ["train"]


# --- Carving validation rows out of a training split ----------------------------------------------


def carved(share: int = 20) -> Task:
    dataset = hub("org/pairs", train=f"train[{share}%:]", validation=f"train[:{share}%]")
    return replace(PAIRS, dataset=dataset, drop={})


def carve(tmp_path: Path, rows: dict, name: str = "out") -> dict[str, list[tuple]]:
    folder = tmp_path / name
    folder.mkdir()
    files = write(tmp_path / f"{name}.parquet", rows)
    facts = normalize(carved(), {"train": files}, folder)
    splits = {s: shards.read(folder, s).to_pylist() for s in ("train", "validation")}
    for split, rows_out in splits.items():
        assert facts["splits"][split] == {
            "rows_in": len(rows_out),
            "rows": len(rows_out),
            "dropped": {},
        }
    return {
        split: [(r["text"], r["query"], r["label"]) for r in rs] for split, rs in splits.items()
    }


def test_carved_splits_are_disjoint_and_together_everything(tmp_path):
    rows = pairs(1000)
    rows_by_split = carve(tmp_path, rows)
    train, validation = set(rows_by_split["train"]), set(rows_by_split["validation"])
    assert not train & validation
    assert train | validation == set(zip(rows["a"], rows["b"], rows["label"], strict=True))
    assert 150 < len(validation) < 250


def test_carving_does_not_depend_on_the_order_of_the_raw_rows(tmp_path):
    rows = pairs(500)
    turned = {name: values[::-1] for name, values in rows.items()}
    one, other = carve(tmp_path, rows), carve(tmp_path, turned, "turned")
    assert set(one["validation"]) == set(other["validation"])
    assert one["validation"] == other["validation"][::-1]


def test_equal_texts_are_carved_to_one_side(tmp_path):
    rows = pairs(600, a=[f"first {i % 50}" for i in range(600)], b=["same"] * 600)
    rows_by_split = carve(tmp_path, rows)
    assert not {row[0] for row in rows_by_split["train"]} & {
        row[0] for row in rows_by_split["validation"]
    }
    assert rows_by_split["validation"]


def test_rows_of_another_slice_are_neither_rows_in_nor_dropped(tmp_path):
    rows = pairs(400, label=[-1 if i % 4 == 0 else i % 2 for i in range(400)])
    folder = tmp_path / "out"
    folder.mkdir()
    splits = normalize(carved(), {"train": write(tmp_path / "t.parquet", rows)}, folder)["splits"]
    assert splits["train"]["rows_in"] + splits["validation"]["rows_in"] == 400
    dropped = [split["dropped"] for split in splits.values()]
    assert all(set(each) == {"unlabelled"} for each in dropped)
    assert sum(each["unlabelled"] for each in dropped) == 100


# --- The same bytes every time --------------------------------------------------------------------


def with_threads(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    connect = duckdb.connect

    def connected(*args, config=None, **kwargs):
        return connect(*args, config={**(config or {}), "threads": threads}, **kwargs)

    monkeypatch.setattr(duckdb, "connect", connected)


def large(name: str) -> pa.Table:
    """More rows than a DuckDB chunk, out of the samples."""
    return pa.concat_tables([sample(name, "train", 240, seed) for seed in range(20)])


@pytest.mark.parametrize("name", ["rte", "stsb", "arc_easy", "squad_v2", "aeslc"])
def test_shards_are_the_same_bytes_with_one_thread_or_two_one_file_or_five(
    tmp_path, monkeypatch, name
):
    task, table = catalogue.get(name), large(name)
    whole = write(tmp_path / "whole.parquet", table)
    cuts = [0, 1, 700, 2048, 3000, table.num_rows]
    parts = [
        write(tmp_path / f"part-{low}.parquet", table.slice(low, high - low))[0]
        for low, high in pairwise(cuts)
    ]
    results = []
    for threads, files in ((1, whole), (2, whole), (1, parts), (2, parts)):
        folder = tmp_path / f"{threads}-{len(files)}"
        folder.mkdir()
        with monkeypatch.context() as patch:
            with_threads(patch, threads)
            facts = normalize(task, {"train": files}, folder)
        results.append((facts, bytes_of(folder)))
    assert all(each == results[0] for each in results)


def test_shards_do_not_depend_on_how_raw_files_are_cut_into_row_groups(tmp_path):
    task, table = catalogue.get("squad_v2"), large("squad_v2")
    for size in (333, 4096):
        pq.write_table(table, tmp_path / f"{size}.parquet", row_group_size=size)
        (tmp_path / f"out-{size}").mkdir()
        normalize(task, {"train": [tmp_path / f"{size}.parquet"]}, tmp_path / f"out-{size}")
    assert bytes_of(tmp_path / "out-333") == bytes_of(tmp_path / "out-4096")


def test_a_large_split_is_cut_into_files_and_read_back_in_order(tmp_path):
    from muppet_dag.corpus.shards import FILE_ROWS

    task = replace(
        summarization(hub("org/sum", validation=None), text="a", target="b"), name="many"
    )
    count = FILE_ROWS + 5
    rows = {"a": [str(i) for i in range(count)], "b": ["x"] * count}
    normalize(task, {"train": write(tmp_path / "t.parquet", rows)}, tmp_path)
    assert [p.name for p in sorted(tmp_path.glob("*.arrow"))] == [
        "train-00000.arrow",
        "train-00001.arrow",
    ]
    texts = shards.read(tmp_path, "train")["text"]
    assert len(texts) == count
    assert texts[-1].as_py() == str(count - 1) and texts[FILE_ROWS].as_py() == str(FILE_ROWS)


def test_an_unknown_split_is_refused_with_those_there_are(bench):
    with pytest.raises(Exception, match=r"no split 'dev'; there are train, validation"):
        shards.read(bench.shards("sst2").path, "dev")
