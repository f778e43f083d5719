"""The small data set: like the Hub's files in form, learnable in content, the same every time."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muppet_dag.catalogue import TASKS, Slice, Task
from muppet_dag.corpus.stream import stream
from muppet_dag.errors import BadConfig
from muppet_dag.samples import WORDS, make

HUB = Path(__file__).parents[2].parent / "shared" / "hub"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("samples"))


def files(root: Path, task: Task) -> list[Path]:
    """The raw files of a task's splits; tasks may share a folder (ANLI's rounds do)."""
    folder = root / task.dataset.repository / task.dataset.config
    splits = {part.split for part in task.dataset.slices.values()}
    return sorted(path for split in splits for path in folder.glob(f"{split}-*.parquet"))


def normalised(root: Path, task: Task) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each raw split and what the normaliser's SQL makes of it; ``dropped`` says why."""
    return _normalised(root, task.name)


@cache  # several tests look at the same rows
def _normalised(root: Path, name: str) -> list[tuple[str, list[dict[str, Any]]]]:
    task, out = TASKS[name], []
    for path in files(root, task):
        split = path.name.split("-")[0]
        batches = stream(task, Slice(split), [path], role=split)
        out.append((split, [row for batch in batches for row in batch.to_pylist()]))
    return out


def plain(kind: pa.DataType) -> object:
    """A type without the names of list items."""
    if pa.types.is_list(kind):
        return [plain(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: plain(field.type) for field in kind}
    return str(kind)


def schema_of(path: Path) -> tuple[dict[str, object], dict[str, Any]]:
    """Columns in order with their types, and the features that the metadata tells of."""
    schema = pq.read_schema(path)
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return {field.name: plain(field.type) for field in schema}, features


@pytest.mark.parametrize("name", TASKS)
def test_every_raw_split_has_a_file(folder: Path, name: str) -> None:
    task = TASKS[name]
    splits = {part.split for part in task.dataset.slices.values()}
    names = {path.name for path in files(folder, task)}
    assert names == {f"{split}-00000-of-00001.parquet" for split in splits}
    for path in files(folder, task):
        rows = 240 if path.name.startswith("train") else 64
        assert pq.read_metadata(path).num_rows == rows


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    again, other = make(tmp_path / "again"), make(tmp_path / "other", seed=1)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet"))
    assert len(paths) > 2 * len(TASKS)
    for path in paths:
        assert (again / path).read_bytes() == (folder / path).read_bytes()
        assert (other / path).read_bytes() != (folder / path).read_bytes()


@pytest.mark.parametrize("name", ["boolq", "trec_fine", "anli_r2"])
def test_one_task_is_the_same_alone(folder: Path, tmp_path: Path, name: str) -> None:
    make(tmp_path, tasks=[name])
    paths = files(tmp_path, TASKS[name])
    assert paths == sorted(tmp_path.rglob("*.parquet"))
    for path in paths:
        assert path.read_bytes() == (folder / path.relative_to(tmp_path)).read_bytes()


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="boolq"):
        make(tmp_path, tasks=["boolqq"])


@pytest.mark.parametrize("name", TASKS)
def test_raw_schema_is_that_of_the_hub(folder: Path, name: str) -> None:
    real = files(HUB, TASKS[name])
    if not real:
        pytest.skip(f"no real rows of {name} beside the checkout (shared/hub)")
    assert list(schema_of(files(folder, TASKS[name])[0])[0].items()) == list(
        schema_of(real[0])[0].items()
    )
    assert schema_of(files(folder, TASKS[name])[0])[1] == schema_of(real[0])[1]


@pytest.mark.parametrize("name", TASKS)
def test_entry_fits_its_sample(folder: Path, name: str) -> None:
    task = TASKS[name]
    for _, rows in normalised(folder, task):
        kept = [row for row in rows if not row["dropped"]]
        assert len(kept) > 0.7 * len(rows)
        for row in kept:
            assert row["text"] or task.family == "commonsense"
            assert row["problem"] is None


@pytest.mark.parametrize("name", [n for n, t in TASKS.items() if "label" in t.columns])
def test_labels_are_in_range_and_balanced(folder: Path, name: str) -> None:
    task = TASKS[name]
    for _, rows in normalised(folder, task):
        labelled = [row for row in rows if not row["dropped"]]
        ranges = [len(task.classes or row["choices"]) for row in labelled]
        assert all(0 <= row["label"] < n for row, n in zip(labelled, ranges, strict=True))
        counts = Counter(row["label"] for row in labelled)
        assert len(counts) == max(ranges)
        assert min(counts.values()) * 4 >= max(counts.values())


@pytest.mark.parametrize("name", [n for n, t in TASKS.items() if t.classes])
def test_class_names_are_those_of_the_entry(folder: Path, name: str) -> None:
    task = TASKS[name]
    feature = schema_of(files(folder, task)[0])[1].get(task.columns["label"])
    if not feature or feature["_type"] != "ClassLabel":
        pytest.skip(f"the raw labels of {name} are strings or booleans")
    assert feature == {"names": list(task.classes), "_type": "ClassLabel"}


def test_datasets_reads_the_features(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for task in TASKS.values():
        schema = pq.read_schema(files(folder, task)[0])
        features = datasets.Features.from_arrow_schema(schema)
        assert [plain(field.type) for field in features.arrow_schema] == [
            plain(field.type) for field in schema
        ]


def test_texts_hold_no_word_outside_the_lexicon(folder: Path) -> None:
    known = set(WORDS)
    assert 200 < len(known) < 500
    for name, task in TASKS.items():
        for _, rows in normalised(folder, task):
            for row in rows:
                texts = [row.get(key) or "" for key in ("text", "query", "target")]
                words = re.findall(r"@?\w+|[^\w\s]", " ".join(texts + (row.get("choices") or [])))
                words = [word.strip("_") for word in words]  # the marks of wsc cling to words
                assert set(words) - known - {""} == set(), name


def test_the_traps_are_there(folder: Path) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        return dict(normalised(folder, TASKS[name]))["train"]

    assert any(row["label"] == -1 for row in rows("snli"))
    assert any(row["dropped"] == "unlabelled" for row in rows("hellaswag"))
    assert any(row["answers"] == [] for row in rows("squad_v2"))
    for name in ("drop", "hotpotqa", "triviaqa", "natural_questions"):
        assert any(row["dropped"] for row in rows(name)), name
    assert any("é" in row["text"][: row["answers"][0]["start"]] for row in rows("squad"))
    assert any(len(row["text"].split()) > 250 for row in rows("squad"))
    assert any(len(row["text"]) > 3500 for row in rows("triviaqa"))
    arc = pq.read_table(files(folder, TASKS["arc_easy"])[-2])["answerKey"].to_pylist()
    assert {"1", "A"} < set(arc)
    options = pq.read_table(files(folder, TASKS["mathqa"])[-2])["options"].to_pylist()
    assert any(text.startswith("[") for text in options)
    assert any(row["dropped"] == "empty text" for row in rows("samsum"))
    assert rows("hyperpartisan")[0]["text"].startswith("café ")


def test_some_texts_repeat_but_few(folder: Path) -> None:
    rows = dict(normalised(folder, TASKS["sst2"]))["train"]
    assert 0.95 * len(rows) < len({row["text"] for row in rows}) < len(rows)
