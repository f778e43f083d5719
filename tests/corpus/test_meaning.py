"""Labels, spans, scores and blanks mean what they say; what is unclear is refused with its row."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.catalogue.task import Task, classification, commonsense, hub, mrc, summarization
from muppet_dag.corpus import shards
from muppet_dag.corpus.normalize import normalize
from muppet_dag.errors import BadConfig, BadData

SPLITS = {"validation": None}
FEW = settings(max_examples=8, deadline=None)


def classes(*names: str, label: str = "label", **kwargs: Any) -> Task:
    entry = classification(hub("o/c", **SPLITS), text="text", label=label, classes=names, **kwargs)
    return replace(entry, name="task")


def choice(label: str = "label", **splits: Any) -> Task:
    dataset = hub("o/m", **(splits or SPLITS))
    return replace(commonsense(dataset, query="q", choices="c", label=label), name="task")


READING = replace(mrc(hub("o/r", **SPLITS), text="text", query="q", answers="a"), name="task")
SUMMARY = replace(summarization(hub("o/s", **SPLITS), text="text", target="t"), name="task")


def scored(**kwargs: Any) -> Task:
    return replace(classification(hub("o/s", **SPLITS), text="text", score="s", **kwargs), name="t")


def write(folder: Path, rows: dict[str, list], ending: str = "parquet", names=None) -> list[Path]:
    """Raw rows as a file; ``names`` are those of ClassLabel columns, as ``datasets`` notes them."""
    path = folder / f"raw.{ending}"
    lines = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    if ending == "parquet":
        features = {n: {"names": list(each), "_type": "ClassLabel"} for n, each in names.items()} \
            if names else {}  # fmt: skip
        table = pa.table(rows)
        note = json.dumps({"info": {"features": features}})
        pq.write_table(table.replace_schema_metadata({"huggingface": note}), path)
    elif ending == "csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerows([rows.keys(), *(line.values() for line in lines)])
    else:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return [path]


def run(task: Task, rows: dict, ending: str = "parquet", names=None) -> tuple[list[dict], dict]:
    """The training rows and the reasons of those that were dropped."""
    with TemporaryDirectory() as folder:
        files = {"train": write(Path(folder), rows, ending, names)}
        facts = normalize(task, files, Path(folder))
        return shards.read(folder, "train").to_pylist(), facts["splits"]["train"]["dropped"]


def labels(task: Task, values: list, ending: str = "parquet", names=None, **more: list) -> list:
    rows = {"text": [f"text {i}" for i in range(len(values))], "label": values, **more}
    return [row["label"] for row in run(task, rows, ending, names)[0]]


def refused(task: Task, rows: dict, ending: str = "parquet", names=None) -> BadData:
    with pytest.raises(BadData) as caught:
        run(task, rows, ending, names)
    return caught.value


def no_labels(task: Task, values: list, ending: str = "parquet", names=None) -> BadData:
    rows = {"text": [f"text {i}" for i in range(len(values))], "label": values}
    return refused(task, rows, ending, names)


# --- Where labels count from ----------------------------------------------------------------------

NAMES = ("a b", "c d", "e f", "g h", "i j")


@FEW
@given(
    count=st.integers(2, 5), shift=st.integers(-1, 1), ending=st.sampled_from(["csv", "parquet"]),
    more=st.lists(st.integers(0, 4), max_size=6), partial=st.booleans(), kind=st.booleans(),
)  # fmt: skip
def test_labels_are_never_shifted_in_silence(count, shift, ending, more, partial, kind):
    """From -1 or from 1, with the last class or without: refused. From 0: taken as they are."""
    used = count - 1 if partial and shift == 1 else count
    values = [*range(used), *(each % used for each in more)]
    raw = [value + shift for value in values]
    if kind:
        task, rows = classes(*NAMES[:count]), {"text": [f"t{i}" for i in range(len(raw))]}
    else:
        task, ending = choice(), "parquet"
        raw, values = raw * 8, values * 8
        rows = {"q": [f"q{i}" for i in range(len(raw))], "c": [list(NAMES[:count])] * len(raw)}
    rows["label"] = raw
    if shift:
        error = refused(task, rows, ending)
        assert error.column == "label" and error.task == "task"
    else:
        assert [row["label"] for row in run(task, rows, ending)[0]] == values


@pytest.mark.parametrize(
    ("values", "names"),
    [([-1, 0, 1], NAMES[:3]), ([-1, 1, 1], NAMES[:2]), (["-1", "0", "1"], ("0", "1", "2")),
     ([-1.0, 0.0, 1.0], ("0", "1", "2"))],
)  # fmt: skip
def test_minus_one_without_the_last_class_is_refused_with_advice_that_helps(values, names):
    error = no_labels(classes(*names), values)
    assert "-1 in 1 rows" in str(error) and 'drop = { "no label"' in str(error)
    up = classes(*names, label="CAST(label AS DOUBLE) + 1")
    if len(names) == 3:
        dropping = replace(classes(*names), drop={"no label": "CAST(label AS DOUBLE) = -1"})
        assert labels(dropping, values) == [0, 1] and labels(up, values) == [0, 1, 2]


def test_minus_one_beside_all_classes_is_no_label():
    assert labels(classes(*NAMES[:3]), [-1, 0, 1, 2, -1]) == [0, 1, 2]


def test_few_questions_may_lack_a_right_first_candidate():
    def rows(count: int, label: Any) -> dict:
        return {"q": ["?"] * count, "c": [["x", "y", "z"]] * count, "label": [label] * count}

    assert len(run(choice(), rows(3, 1))[0]) == 3
    assert "count from 1" in str(refused(choice(), rows(8, 1)))
    assert len(run(choice(), rows(8, "B"))[0]) == 8  # a letter counts from nowhere
    odd = {"q": ["?"] * 3, "c": [None, ["x"], ["x", "y"]], "label": [0, 0, 1]}
    assert len(run(replace(choice(), drop={"too few": "coalesce(len(c), 0) < 2"}), odd)[0]) == 1


def test_the_dataset_s_own_names_vouch_for_its_numbers():
    names = {"label": NAMES[:3]}
    assert labels(classes(*NAMES[:3]), [-1, 0, 1], names=names) == [0, 1]
    assert labels(classes(*NAMES[:3]), [1, 1, 2], names=names) == [1, 1, 2]


def test_splits_are_looked_at_together(tmp_path):
    task = classes(*NAMES[:3])
    task = replace(task, dataset=hub("o/c", test="test"))

    def facts(**values: list[int]) -> dict:
        files = {}
        for split, each in values.items():
            (folder := tmp_path / f"{split}{len(list(tmp_path.iterdir()))}").mkdir()
            files[split] = write(folder, {"text": list(map(str, each)), "label": each})
        return normalize(task, files, tmp_path)["splits"]

    # That another split has both -1 and the last class says what -1 means.
    assert facts(train=[-1, 0, 1, 2], validation=[-1, 0, 1])["validation"]["rows"] == 2
    assert facts(train=[0, 1, 2], validation=[1, 2])["validation"]["rows"] == 2
    with pytest.raises(BadData, match=r"split 'validation'.*-1 in 1 rows"):
        facts(train=[0, 1, 2], validation=[-1, 0, 1])
    with pytest.raises(BadData, match="no row has the label 0, the lowest is 1"):
        facts(train=[1, 2], validation=[1, 2])
    with pytest.raises(BadData, match=r"split 'test'.*'unlabelled': 2"):
        facts(train=[0, 1, 2], validation=[0, 1], test=[-1, -1])


# --- Labels by name -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_may_be_class_names(ending):
    task = classes("not_spam", "Spam")
    values = ["Spam", "not_spam", "spam", " NOT  Spam ", "not spam", "", "1", "0"]
    assert labels(task, values, ending) == [1, 0, 1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("value", "ending"),
    zip(["egg", "spa m", "2", "0.5", "-2", "true", "nan", "-"], cycle(["csv", "jsonl", "parquet"])),
)
def test_an_unknown_name_is_refused_and_never_dropped(value, ending):
    error = no_labels(classes("ham", "spam"), ["ham", "spam", value], ending)
    assert (error.column, error.row) == ("label", 2)
    assert repr(value) in str(error)
    assert "'ham', 'spam'" in str(error) or "whole number" in str(error)


@FEW
@given(
    names=st.lists(st.text(max_size=8), min_size=2, max_size=4, unique=True),
    places=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_whatever_the_names_the_exact_one_counts(names, places):
    from muppet_dag.corpus.labels import _are_numbers, folded

    if any(not folded(name) or name != name.strip() or not name.isprintable() for name in names):
        names = [f"{place} {name}".strip() for place, name in enumerate(names)]
    names = [name.replace("\x00", "") for name in names]
    if len(set(names)) < len(names) or _are_numbers(names):
        return
    values = [names[place % len(names)] for place in places]
    assert labels(classes(*names), values) == [names.index(value) for value in values]


def test_names_that_differ_in_case_only_are_told_apart():
    assert labels(classes("a", "A"), ["A", "a"]) == [1, 0]
    assert no_labels(classes("a", "A", "b"), ["a", "A", "B"]).row == 2


@pytest.mark.parametrize(
    ("names", "values", "expected"),
    [
        (("0", "1"), ["1", "0", "1.0"], [1, 0, 1]),
        (("1", "2"), ["1", "2", "2.0"], [0, 1, 1]),  # as text the name
        (("1", "2"), [0, 1, 1], [0, 1, 1]),  # as a number the place
        (("1", "0"), [1, 0, 1], [0, 1, 0]),  # names are the numbers: no doubt
        (("1", "0"), ["1", "0", "0"], [0, 1, 1]),
        (("-1", "1"), ["-1", "1", "1"], [0, 1, 1]),
        (("bad", "good"), [True, False], [1, 0]),
        (("True", "False"), [True, False], [0, 1]),
        (("yes", "no"), [True, False], [0, 1]),
        (("no", "yes"), [True, False], [1, 0]),
    ],
)
def test_numbers_booleans_and_names_that_are_numbers(names, values, expected):
    assert labels(classes(*names), values) == expected


@pytest.mark.parametrize(
    ("names", "values", "row"),
    [
        (("1", "2"), ["1", "0"], 1),
        (("1", "2", "3"), [1, 2, 3], 2),
        (("a", "b", "c"), [True, False], 0),
        (("a", "b"), [0.0, float("inf")], 1),
        (("a", "b"), [0, 2**40], 1),
        (("a", "b"), [["a"], ["b"]], 0),
    ],
)
def test_what_is_unclear_is_refused(names, values, row):
    assert no_labels(classes(*names), values).row == row


def test_candidates_are_numbered_or_lettered():
    def picked(values: list, candidates: list[str] | None = None) -> list[int]:
        count = len(values)
        rows = {"q": [f"q{i}" for i in range(count)], "c": [candidates or ["x", "y"]] * count}
        return [row["label"] for row in run(choice(), {**rows, "label": values})[0]]

    assert picked([0, 1]) == picked(["0", "1"]) == picked(["A", "b"]) == picked([False, True])
    assert picked(["A", ""]) == [0] and picked(["B", "A"], ["A", "A"]) != [0, 0]


@pytest.mark.parametrize(
    ("value", "candidates"),
    [("x", ["x", "y"]), ("C", ["x", "y"]), ("2", ["x", "y"]), ("1", ["1", "0"]), ("A", ["B", "A"]),
     ("first", ["x", "y"]), (0.5, ["x", "y"]), (2, ["x", "y"])],
)  # fmt: skip
def test_other_answers_to_a_choice_are_refused(value, candidates):
    rows = {"q": ["?"], "c": [candidates], "label": [value]}
    error = refused(choice(), rows)
    assert (error.column, error.row) == ("label", 0)
    assert "letter" in str(error) or "whole" in str(error)


# --- The dataset's own names ----------------------------------------------------------------------

READS = [
    "label", "Label", '"label"', '"LABEL"', "CAST(label AS INTEGER)", "label::INT", "label + 0",
    "TRY_CAST(label AS BIGINT)", "CASE WHEN label >= 0 THEN label END", "coalesce(label, -1)",
    "nullif(label, -1) -- as it is",
]  # fmt: skip


@pytest.mark.parametrize(("read", "column"), zip(READS, cycle(["label", "Label"])))
def test_the_order_of_names_is_checked_through_any_expression(read, column):
    rows = {"text": ["a", "b"], column: [0, 1]}
    names = {column: ["Negative", "Posi  tive"]}
    error = refused(classes("posi_tive", "negative", label=read), rows, names=names)
    assert "['Negative', 'Posi  tive']" in str(error) and "classes=" in str(error)
    for fine in (("negative", "posi_tive"), ("bad", "good")):
        assert len(run(classes(*fine, label=read), rows, names=names)[0]) == 2


def test_an_expression_that_turns_the_order_is_right():
    rows, names = {"text": ["a", "b"], "label": [0, 1]}, {"label": ["neg", "pos"]}
    made, _ = run(classes("pos", "neg", label="1 - label"), rows, names=names)
    assert [row["label"] for row in made] == [1, 0]
    refused(classes("neg", "pos", label="1 - label"), rows, names=names)
    by_name = "['neg', 'pos'][label + 1]"
    made, _ = run(classes("pos", "neg", label=by_name), rows, names=names)
    assert [row["label"] for row in made] == [1, 0]


def test_classes_may_be_joined_and_names_partly_known():
    rows, names = {"text": ["a", "b", "c"], "label": [0, 1, 2]}, {"label": ["neg", "neu", "pos"]}
    joined = classes("neg", "pos", label="CASE label WHEN 0 THEN 0 ELSE 1 END")
    assert [row["label"] for row in run(joined, rows, names=names)[0]] == [0, 1, 1]
    refused(classes("pos", "?", "negative"), rows, names=names)
    refused(classes("neg", "pos"), {**rows, "label": [0, 1, 1]}, names=names)


def test_a_class_label_inside_a_struct(tmp_path):
    table = pa.table({"text": ["a", "b"], "info": [{"l": 0, "x": "?"}, {"l": 1, "x": "?"}]})
    inner = {"l": {"names": ["neg", "pos"], "_type": "ClassLabel"}}
    note = json.dumps({"info": {"features": {"info": inner}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": note}), tmp_path / "raw.parquet")
    with pytest.raises(BadData, match=r"info\.l"):
        task = classes("pos", "neg", label="info.l")
        normalize(task, {"train": [tmp_path / "raw.parquet"]}, tmp_path)


# --- Spans and questions --------------------------------------------------------------------------


def read(*answers: Any, question: Any = "what?") -> tuple[list[dict], dict]:
    count = len(answers)
    rows = {"text": ["sky blue"] * count, "q": [question] * count, "a": list(answers)}
    return run(READING, rows)


@pytest.mark.parametrize(
    "start", [-1, -6, -4, 3, 5, 8, 99, None, 2**31 - 1, 2**40, 4.5, float("nan"), float("inf")]
)
def test_a_span_stands_where_it_says(start):
    rows = {"text": ["sky blue"] * 2, "q": ["?"] * 2,
            "a": [[{"text": "blue", "start": 4}], [{"text": "blue", "start": start}]]}  # fmt: skip
    error = refused(READING, rows)
    assert (error.column, error.row) == ("answers", 1) and "blue" in str(error)


@pytest.mark.parametrize("text", ["", " ", "\n", "\u200b", None])
@pytest.mark.parametrize("start", [-1, 0, 3])
def test_a_blank_answer_is_none(text, start):
    made, _ = read([{"text": text, "start": start}], [{"text": "blue", "start": 4}])
    assert [row["answers"] for row in made] == [[], [{"text": "blue", "start": 4}]]


def test_a_question_that_is_missing_is_refused_and_a_blank_one_dropped():
    answers = [[{"text": "blue", "start": 4}]] * 2
    rows = {"text": ["sky blue"] * 2, "q": ["what?", None], "a": answers}
    error = refused(READING, rows)
    assert (error.column, error.row) == ("query", 1) and "drop=" in str(error)
    assert run(READING, {**rows, "q": ["what?", "\u2003"]})[1] == {"empty question": 1}
    lifted = replace(READING, drop={"no question": "q IS NULL"})
    assert run(lifted, rows)[1] == {"no question": 1}


# --- Blanks ---------------------------------------------------------------------------------------

BLANKS = ["", " ", "\n", "\t\r\n", "\u00a0", "\u2003", "\u3000", "\u2028", "\x0b\x0c", "\x1c",
          "\x85", "\u200b", "\ufeff", "\u2060", "\u00ad", "\u3164", "\u2800", "\ufe0f", "\u180e",
          "\x00", "\u200d \u200e"]  # fmt: skip


def test_blank_is_one_thing_in_every_column():
    """Each column of each family, with all kinds of blanks; the signs beside them are none."""
    count, seen = len(BLANKS), ["x", "、", "🙂", "\u0661", "é", "_", "\ue000"]
    good = {"text": ["t"] * count, "t": ["t"] * count, "q": ["q"] * count}
    _, dropped = run(SUMMARY, {"text": ["t"] * (count + 8), "t": [*BLANKS, *seen, None]})
    assert dropped == {"unlabelled": 2, "empty target": count - 1}
    _, dropped = run(SUMMARY, {"t": ["t"] * (count + 8), "text": [*BLANKS, *seen, None]})
    assert dropped == {"empty text": count + 1}
    rows = {"text": [*BLANKS, *seen], "label": [0] * (count + len(seen))}
    assert run(classes("a", "b"), rows)[1] == {"empty text": count}
    rows = {"text": ["t"] * (count + 2), "label": [*BLANKS, "a", "b"]}
    assert run(classes("a", "b"), rows)[1] == {"unlabelled": count}
    candidates = [["a", blank] for blank in BLANKS] + [["a", sign] for sign in seen]
    total = len(candidates)
    rows = {"q": ["?"] * total, "c": candidates, "label": [0] * total}
    assert run(choice(), rows)[1] == {"empty candidate": count}
    answers = [[{"text": blank, "start": 0}] for blank in BLANKS]
    made, _ = run(READING, {**good, "a": answers})
    assert all(row["answers"] == [] for row in made) and len(made) == count


# --- Questions of several rows --------------------------------------------------------------------


def test_scores_by_question_need_ids_that_group():
    with pytest.raises(BadConfig, match="question_exact_match needs id"):
        classes("a", "b", metrics=("question_exact_match",))
    task = classes("a", "b", metrics=("question_exact_match",), id="id")
    rows = {"text": ["t", "u"], "label": [0, 1]}
    assert run(task, {**rows, "id": ["q1-0", "q1-1"]})[0][0]["id"] == "q1-0"
    for id in ("q2", None):
        error = refused(task, {**rows, "id": ["q1-0", id]})
        assert (error.column, error.row) == ("id", 1)
    plain = replace(task, metrics=("accuracy",))
    assert plain.fingerprint != task.fingerprint  # the ids are looked at once they count


# --- Parts by hash --------------------------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(number=st.integers(0, 10_000), column=st.sampled_from(["text", "q", "c"]))
def test_every_column_that_is_read_decides_where_a_row_goes(number, column):
    task = replace(
        commonsense(hub("o/m", train="train[20%:]", validation="train[:20%]"), text="text",
                    query="q", choices="c", label="label"), name="task",
    )  # fmt: skip
    varied = [f"{number} {i // 2}" for i in range(200)]  # every row twice
    rows: dict[str, list] = {"text": ["t"] * 200, "q": ["q"] * 200, "c": [["a", "b"]] * 200}
    rows[column] = [["a", each] for each in varied] if column == "c" else varied
    with TemporaryDirectory() as folder:
        files = write(Path(folder), {**rows, "label": [i % 2 for i in range(200)]})
        normalize(task, {"train": files}, Path(folder))
        sides = [shards.read(folder, s).select(["text", "query", "choices"]).to_pylist()
                 for s in ("train", "validation")]  # fmt: skip
    train, validation = (Counter(map(str, side)) for side in sides)
    assert not train.keys() & validation.keys()
    assert len(train) + len(validation) == 100 and 8 <= len(validation) <= 34


# --- Scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("score", [1.5, -0.1, 100.0, 1e300, "high", float("nan"), float("inf")])
def test_a_score_outside_its_range_is_refused(ending, score):
    values = [0.5, score] if isinstance(score, float) else ["0.5", score]
    error = refused(scored(), {"text": ["a", "b"], "s": values}, ending)
    assert (error.column, error.row) == ("score", 1) and "score_range = [" in str(error)


def test_scores_from_0_to_1_need_no_range_and_others_do():
    rows = {"text": ["a", "b", "c"], "s": [0.0, 1.0, None]}
    made, dropped = run(scored(), rows)
    assert [row["score"] for row in made] == [0, 1] and dropped == {"unlabelled": 1}
    made, _ = run(scored(score_range=(0, 100)), {**rows, "s": [0.0, 100.0, 7.0]})
    assert [row["score"] for row in made] == [0, 100, 7]


@pytest.mark.parametrize(
    "bounds", [(3, 3), (5, 0), (float("nan"), 1), (0, float("inf")), (0.0, -0.0)]
)
def test_a_range_is_two_different_numbers_in_order(bounds):
    with pytest.raises(BadConfig, match="score_range"):
        scored(score_range=bounds)


# --- Names that stand for nothing -----------------------------------------------------------------


def test_an_expression_means_raw_columns_only():
    """The name of a unified column stands for no raw one that is missing."""
    task = classification(
        hub("o/c", **SPLITS), text="review", query="text", label="stars", classes=("a", "b")
    )
    rows = {"review": ["x", "y"], "stars": [0, 1]}
    error = refused(replace(task, name="task"), rows)
    assert error.column == "query" and "The raw columns are now: review, stars." in str(error)
    dropping = replace(task, columns={**task.columns, "query": "review"}, drop={"x": "label = 1"})
    assert refused(replace(dropping, name="task"), rows).column == "drop['x']"
