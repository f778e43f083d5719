"""Tasks of the tasksource package: plain declarations are taken over, others say why not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muppet_dag import catalogue
from muppet_dag.catalogue import Slice, bridge, declared
from muppet_dag.corpus.stream import stream
from muppet_dag.errors import BadConfig

MODULE = """
from .preprocess import cat, get, regen, name, constant, Classification, MultipleChoice
raise RuntimeError("this module is never run")
PARQUET = "refs/convert/parquet"
NLI = {0: "entailment", 1: "neutral", 2: "contradiction"}
def remove_neg_1(dataset): return dataset
glue___rte = Classification(sentence1="sentence1", sentence2="sentence2", labels="label")
glue___mnli = Classification("premise", "hypothesis", labels="label", label_values=NLI,
    splits=["train", None, "validation_matched"], post_process=remove_neg_1)
rotten = Classification("text", labels=name("label", ["neg", "pos"]),
    splits=["train", None, None],
    dataset_name="me/rotten", load_dataset_kwargs=dict(revision=PARQUET, data_dir="plain"))
joci = Classification("context", "hypothesis", "original",
    label_values={1: "no", 2: "so", 3: "yes"},
    dataset_name="me/joci")
many = Classification("a", "b", "label", label_values=dict(enumerate(["x", "y"])),
    dataset_name="me/many", config_name=["one", "two"])
quiz = MultipleChoice(cat(["context", "question"]), regen("answer[0-2]"), "key",
    dataset_name="me/quiz")
sciq = MultipleChoice("question", ["right"] + regen("wrong[1-2]"), labels=constant(0),
    dataset_name="allenai/sciq")
obqa = MultipleChoice("stem", choices_list=get.choices.text, labels="key", dataset_name="me/obqa")
wic = Classification(sentence1=lambda x: x["word"], sentence2="s", labels="label",
    dataset_name="me/wic", label_values=NLI)
pre = Classification("a", "b", "label", dataset_name="me/pre", pre_process=lambda d: d)
loose = Classification("a", "b", "label", dataset_name="me/loose", label_values=NLI,
    load_dataset_kwargs={"data_files": "a.csv"})
maybe = Classification("sentence1", labels="label", dataset_name="me/maybe", label_values=NLI)
tags = TokenClassification(tokens="tokens", labels="tags", dataset_name="me/tags")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package laid out as tasksource is, found in its place."""
    home = tmp_path / "site" / "tasksource"
    (home / "metadata").mkdir(parents=True)
    (home / "__init__.py").write_text("raise RuntimeError('never imported')")
    (home / "tasks.py").write_text(MODULE)
    (home / "metadata" / "canonical.py").write_text("CANONICAL = {'glue': 'nyu-mll/glue'}")
    (home / "metadata" / "source_revisions.py").write_text("SOURCE_REVISIONS = {}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    yield home
    assert "tasksource" not in sys.modules


def normalised(task, raw: dict[str, list], folder: Path) -> list[dict]:
    pq.write_table(pa.table(raw), folder / "raw.parquet")
    batches = stream(task, Slice("train"), [folder / "raw.parquet"], role="train")
    return [row for batch in batches for row in batch.to_pylist()]


def test_ids_are_those_of_the_package(package):
    ids = list(declared.declarations())
    assert ids[:4] == ["glue/rte", "glue/mnli", "rotten", "joci"]
    assert {"many/one", "many/two", "quiz", "sciq", "tags"} <= set(ids)


def test_classes_are_declared_or_given(package, tmp_path):
    mnli = bridge.from_tasksource("glue/mnli")
    assert mnli.dataset.repository == "nyu-mll/glue" and mnli.dataset.config == "mnli"
    assert mnli.classes == ("entailment", "neutral", "contradiction")
    assert mnli.dataset.splits == {
        "train": "train",
        "validation": "validation_matched[:50%]",
        "test": "validation_matched[50%:]",
    }
    with pytest.raises(BadConfig, match=r"give classes = \["):
        bridge.from_tasksource("glue/rte")
    rte = bridge.from_tasksource("glue/rte", classes=["yes", "no"])
    raw = {"sentence1": ["a", "b", "c"], "sentence2": ["x", "y", "z"]}
    numbers = normalised(rte, {**raw, "label": [0, 1, -1]}, tmp_path)
    assert [row["label"] for row in numbers] == [0, 1, -1]
    assert numbers[2]["dropped"] == "unlabelled" and numbers[0]["query"] == "x"
    words = normalised(rte, {**raw, "label": ["no", "yes", "perhaps"]}, tmp_path)
    assert [row["label"] for row in words] == [1, 0, -2]


def test_label_values_that_do_not_count_from_zero(package, tmp_path):
    joci = bridge.from_tasksource("joci")
    raw = {"context": ["a"] * 3, "hypothesis": ["b"] * 3, "original": [3, 1, 9]}
    assert [row["label"] for row in normalised(joci, raw, tmp_path)] == [2, 0, -2]
    assert joci.classes == ("no", "so", "yes")


def test_named_labels_configs_and_carved_validation(package):
    rotten = bridge.from_tasksource("rotten")
    assert rotten.classes == ("neg", "pos") and "query" not in rotten.columns
    assert rotten.dataset.config == "plain"
    assert rotten.dataset.revision == "refs/convert/parquet"
    assert rotten.dataset.slices == {"train": Slice("train", 5), "validation": Slice("train", 0, 5)}
    assert bridge.from_tasksource("many/two").dataset.config == "two"
    assert bridge.from_tasksource("many/one").classes == ("x", "y")


def test_multiple_choice(package, tmp_path):
    raw = {"context": ["It rains.", None], "question": ["Why?", "How?"], "key": ["C", "A"]}
    raw |= {f"answer{place}": [str(place), str(place)] for place in range(3)}
    rows = normalised(bridge.from_tasksource("quiz"), raw, tmp_path)
    assert [row["label"] for row in rows] == [2, 0] and rows[0]["choices"] == ["0", "1", "2"]
    assert [row["query"] for row in rows] == ["It rains. Why?", "How?"]
    sciq = bridge.from_tasksource("sciq")
    assert sciq.columns["choices"] == '["right", "wrong1", "wrong2"]'
    assert sciq.columns["label"] == "0"
    listed = {"stem": ["s"], "choices": [{"text": ["a", "b"]}], "key": [1]}
    rows = normalised(bridge.from_tasksource("obqa"), listed, tmp_path)
    assert rows[0]["choices"] == ["a", "b"] and rows[0]["label"] == 1


@pytest.mark.parametrize(
    ("id", "why"),
    [
        ("wic", "its sentence1 is Python code"),
        ("pre", r"prepared by Python code \(pre_process\)"),
        ("loose", "loose files"),
        ("maybe", 'give query = "sentence2" or "NULL"'),
        ("tags", "its template TokenClassification is none of ours"),
        ("glue/rtee", "no such task; did you mean glue/rte"),
    ],
)
def test_others_say_why_not(package, id, why):
    with pytest.raises(BadConfig, match=why):
        bridge.from_tasksource(id)


def test_in_toml(package, tmp_path):
    (tmp_path / "tasks").mkdir()
    path = tmp_path / "tasks" / "more.toml"
    path.write_text(
        '[again]\ntasksource = "glue/rte"\nclasses = ["yes", "no"]\nlicence = "mit"\n'
        'splits = { train = "train", validation = "dev" }\n'
        '[one]\ntasksource = "maybe"\nquery = "NULL"\nmetrics = ["macro_f1"]\n'
    )
    tasks = catalogue.extend(tmp_path / "tasks")
    assert tasks["again"].dataset.splits == {"train": "train", "validation": "dev"}
    assert tasks["again"].licence == "mit" and tasks["one"].metrics == ("macro_f1",)
    path.write_text('[again]\ntasksource = "glue/rte"\n')
    catalogue.extend(tmp_path / "tasks")
    with pytest.raises(BadConfig, match=r"more\.toml: again: tasksource = 'glue/rte' cannot be"):
        catalogue.get("again")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadConfig, match="not installed"):
        bridge.from_tasksource("glue/rte")


def test_the_real_package():
    """About half of its tasks, and all the others with a reason."""
    if importlib.util.find_spec("tasksource") is None:
        pytest.skip("tasksource is not installed")
    taken, refused = [], {}
    for id in declared.declarations():
        try:
            columns = {"query": "NULL", "text": '"sentence1"'}
            bridge.from_tasksource(id, classes=["a", "b"], columns=columns)
            taken.append(id)
        except BadConfig as error:
            refused[id] = str(error)
    assert len(taken) > 200 and {"glue/rte", "imdb", "sciq", "openbookqa"} <= set(taken)
    assert all("cannot be bridged" in why for why in refused.values())
