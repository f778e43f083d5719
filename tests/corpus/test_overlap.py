"""Overlap: planted rows are found under their kind, unrelated ones are not."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.corpus import fingerprint, overlap, shards
from muppet_dag.corpus.overlap import LEAKS
from muppet_dag.corpus.schema import SCHEMA

ENDS = ("l", "n", "rt", "sk", "m", "nd")
WORDS = np.random.default_rng(7).permutation(
    [a + b + c for a in "bdgklmnprst" for b in "aeiou" for c in ENDS]
)


def sentence(seed: int, words: int = 20) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def changed(text: str, at: int) -> str:
    words = text.split()
    words[at] = "entirely"
    return " ".join(words)


def task(folder: Path, **splits: list) -> Path:
    """Shards of rows given as a text, (text, query) or (text, query, choices)."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in splits.items():
        full = [(t,) if isinstance(t, str) else t for t in texts]
        rows = [dict(zip(("text", "query", "choices"), row, strict=False)) for row in full]
        for i, row in enumerate(rows):
            row["id"] = str(i)
        with shards.ShardWriter(folder, split) as writer:
            writer.write(pa.RecordBatch.from_pylist(rows, SCHEMA))
    return folder


def find_overlaps(tmp_path: Path, folders: dict[str, Path]) -> list[tuple]:
    """(train task, train row, kind, eval task, eval split, eval row)."""
    out = tmp_path / "out"
    out.mkdir()
    overlap.find(folders, out)
    assert [p.name for p in out.iterdir()] == [overlap.FILE]
    rows = pq.read_table(out / overlap.FILE).to_pylist()
    return [tuple(row.values())[:6] for row in rows]


def test_equal_rows_are_found_within_and_across_tasks_whatever_case_and_white_space(tmp_path):
    one, two = sentence(1), f'"{sentence(2, words=5)}" - yes!'
    a = task(tmp_path / "a", train=[one, sentence(3), two], validation=[sentence(4)],
             test=[f"  {one.upper()}\n"])  # fmt: skip
    other = two.replace('"', " “ ", 1).replace('"', " ”").replace("-", "—").replace("!", " !")
    b = task(tmp_path / "b", train=[sentence(5)], validation=[other.replace(" ", "\u00a0\t")])
    assert find_overlaps(tmp_path, {"a": a, "b": b}) == [
        ("a", 0, "row", "a", "test", 0),
        ("a", 2, "row", "b", "validation", 0),
    ]


def test_rows_with_other_punctuation_are_near(tmp_path):
    one, two = sentence(1), sentence(2, words=8)
    a = task(tmp_path / "a", train=[f"- {one}!", f"( {two.replace(' ', ', ')} )"],
             validation=[one, f"{two} ."])  # fmt: skip
    assert [row[:3] for row in find_overlaps(tmp_path, {"a": a})] == [
        ("a", 0, "near"), ("a", 1, "near"),
    ]  # fmt: skip


def test_unicode_forms_count_as_equal(tmp_path):
    a = task(tmp_path / "a", train=["Cafe\u0301 fine", "“Straße”"],
             validation=["CAFÉ fine", "strasse", '"straße"'])  # fmt: skip
    assert find_overlaps(tmp_path, {"a": a}) == [
        ("a", 0, "row", "a", "validation", 0),
        ("a", 1, "row", "a", "validation", 2),
    ]


STYLE = str.maketrans(dict.fromkeys("‘’‚‛`", "'") | dict.fromkeys("“”„‟«»", '"')
                      | dict.fromkeys("‐‑‒–—―", "-"))  # fmt: skip
FORMULAS = st.text("ab1234567890+-*/=<>^²%()[]{}.,:;!?'#&|~$€√≤ \n", max_size=12)


def signs(text: str) -> str:
    """What must be equal of equal rows: all but case, white space and the style of quotes."""
    text = unicodedata.normalize("NFC", text).translate(STYLE).replace("''", '"')
    return "".join(unicodedata.normalize("NFC", text.lower()).split())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(FORMULAS, st.text(max_size=8)), min_size=2, max_size=30))
def test_rows_that_differ_in_any_letter_digit_or_sign_are_never_equal(texts):
    normal = fingerprint.normalised(pa.array(texts)).to_pylist()
    by_form: dict[str, set[str]] = {}
    for text, form in zip(texts, normal, strict=True):
        by_form.setdefault(form, set()).add(signs(text))
    assert all(len(each) == 1 for each in by_form.values())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["a", "bc", "4", "+", "<", ".", "é"]), min_size=1, max_size=9))
def test_white_space_counts_between_words_only(tokens):
    loose = "\u2003 ".join(tokens)
    tight = re.sub(r"(?<![\w]) | (?!\w)", "", " ".join(tokens))
    assert fingerprint.normalised(pa.array([loose])) == fingerprint.normalised(pa.array([tight]))
    assert fingerprint.normalised(pa.array(["a b"])) != fingerprint.normalised(pa.array(["ab"]))


#: Short ones, and ones of enough words to be near each other but for their figures.
PROBLEMS = (
    "{}",
    "Please work out the following and write down the result as a single whole number : {}",
    "He says that {} is what he likes best of all the things he has ever come across in his life .",
)
SUMS = [f"{a} {sign} {b}" for a in range(3, 9) for sign in "+-*/<>" for b in range(1, 4)]
NAMES = ["C", "C++", "C#", "x < y", "x >= y", "(3 + 4) * 2", "3 + (4 * 2)", "3.5", "3,5", "35",
         "x² = 4", "x2 = 4", "5 %", "5 €", "$5", "5"]  # fmt: skip


def halves(rows: list, bit: int) -> tuple[list, list]:
    """Rows whose number lacks a bit, and those that have it."""
    return tuple([each for i, each in enumerate(rows) if i >> bit & 1 == side] for side in (0, 1))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_other_figures_are_other_rows(tmp_path, problem):
    for bit in (0, 1):  # so that all neighbours are apart once
        folder = tmp_path / str(bit)
        train, held = halves([problem.format(each) for each in [*SUMS, *NAMES]], bit)
        a = task(folder / "a", train=train, validation=held)
        train, held = halves([("", problem, [each, "x"]) for each in SUMS], bit)
        b = task(folder / "b", train=train, validation=held)
        found = find_overlaps(folder, {"a": a, "b": b})
        assert [row for row in found if row[2] in LEAKS] == []


def test_the_same_sentence_with_another_word_marked_is_not_the_same_row(tmp_path):
    marked = [" ".join(f"*{w}*" if i == at else w for i, w in enumerate(sentence(1).split()))
              for at in (3, 9)]  # fmt: skip
    a = task(tmp_path / "a", train=marked[:1], validation=marked[1:])
    assert [row[2] for row in find_overlaps(tmp_path, {"a": a})] == ["near"]


ALPHABETS = {
    "chinese": "".join(map(chr, range(0x4E00, 0x5200))),
    "japanese": "".join(map(chr, [*range(0x3042, 0x3094), *range(0x30A2, 0x30FA)])),
    "thai": "".join(map(chr, range(0x0E01, 0x0E2F))),
    "khmer": "".join(map(chr, range(0x1780, 0x17B3))),
}


@pytest.mark.parametrize("script", ALPHABETS)
def test_near_duplicates_are_found_in_scripts_without_blanks(tmp_path, script):
    draw = np.random.default_rng(7)
    texts = ["".join(draw.choice(list(ALPHABETS[script]), 30)) for _ in range(50)]
    held = [f"{text[:14]}X{text[15:]}。" for text in texts[:25]]
    a = task(tmp_path / "a", train=texts, validation=held)
    expected = [("a", i, "near", "a", "validation", i) for i in range(25)]
    assert find_overlaps(tmp_path, {"a": a}) == expected


def test_the_split_of_a_row_into_fields_does_not_count_and_candidates_do(tmp_path):
    whole = (sentence(1), sentence(2, 6), ["yes", "no"])
    a = task(tmp_path / "a", train=[whole, (sentence(1), sentence(2, 6), ["left", "right"])])
    b = task(tmp_path / "b", validation=[(f"{sentence(1)} {sentence(2, 6)} yes", "no")])
    assert [row[:3] for row in find_overlaps(tmp_path, {"a": a, "b": b})] == [("a", 0, "row")]


def test_near_duplicates_are_found_at_about_the_stated_similarity(tmp_path):
    texts = [sentence(seed, words=40) for seed in range(100)]
    once = [changed(text, 20) for text in texts]  # 35 of 41 shingles: 0.85
    often = [changed(changed(changed(text, 8), 20), 32) for text in texts]  # 29 of 47: 0.62
    a = task(tmp_path / "a", train=[*once, *often], validation=texts)
    rows = find_overlaps(tmp_path, {"a": a})
    assert rows == [("a", i, "near", "a", "validation", i) for i in range(100)]
    table = pq.read_table(tmp_path / "out" / overlap.FILE)
    assert table["similarity"].to_numpy() == pytest.approx(35 / 41, abs=0.01)


def test_a_pair_the_other_way_round_is_near(tmp_path):
    first, second = sentence(1, 15), sentence(2, 15)
    a = task(tmp_path / "a", train=[(first, second)], validation=[(second, first)])
    assert find_overlaps(tmp_path, {"a": a}) == [("a", 0, "near", "a", "validation", 0)]


def test_a_shared_passage_is_text_and_a_shared_question_is_query(tmp_path):
    passage, question = sentence(1, 200), sentence(2, 8)
    a = task(tmp_path / "a", train=[(passage, sentence(3, 8)), (sentence(4, 30), question)])
    b = task(tmp_path / "b", validation=[(passage, question)])
    c = task(tmp_path / "c", test=[question])
    assert find_overlaps(tmp_path, {"a": a, "b": b, "c": c}) == [
        ("a", 0, "text", "b", "validation", 0),
        ("a", 1, "query", "b", "validation", 0),
        ("a", 1, "query", "c", "test", 0),
    ]


def test_a_question_asked_of_many_texts_and_short_texts_prove_nothing(tmp_path):
    common = "Which of these is true?"
    a = task(tmp_path / "a", train=[(sentence(1), common), ("a short text", sentence(2, 6))],
             validation=[*((sentence(i), common) for i in range(10, 14)),
                         ("a short text", sentence(3, 6))])  # fmt: skip
    b = task(tmp_path / "b", train=[(sentence(i), "What did the man say?") for i in range(20, 24)],
             validation=[(sentence(24), "What did the man say?")])  # fmt: skip
    assert find_overlaps(tmp_path, {"a": a, "b": b}) == []


def test_unrelated_empty_and_training_rows_are_left_alone(tmp_path):
    train = [sentence(i, words=30) for i in range(300)]
    a = task(tmp_path / "a", train=[*train, "", train[0]], validation=["...", sentence(999, 30)])
    b = task(tmp_path / "b", train=train)
    assert find_overlaps(tmp_path, {"a": a, "b": b}) == []


def test_the_same_rows_give_the_same_bytes_and_facts(tmp_path):
    texts = [sentence(seed, words=25) for seed in range(200)]
    a = task(tmp_path / "a", train=[changed(t, 12) for t in texts], validation=texts)
    b = task(tmp_path / "b", train=texts[:50], test=[changed(t, 3) for t in texts])
    results = []
    for name in ("one", "again"):
        (tmp_path / name).mkdir()
        facts = overlap.find({"b": b, "a": a}, tmp_path / name)
        results.append((facts, (tmp_path / name / overlap.FILE).read_bytes()))
    assert results[0] == results[1]
    facts = results[0][0]
    assert (facts["train_rows"], facts["evaluation_rows"]) == (250, 400)
    assert facts["affected"]["b"] == {"overlapping": 50, "leaked": 50}
    pair = next(r for r in facts["matrix"] if (r["train_task"], r["eval_task"]) == ("b", "a"))
    assert pair == {"train_task": "b", "eval_task": "a", "row": 50, "near": 0, "query": 0,
                    "text": 0}  # fmt: skip


def test_templates_that_are_all_alike_stay_linear(tmp_path):
    rows = [f"the doctor near the {w} saw the lawyer and the {v} left" for w in WORDS[:60]
            for v in WORDS[60:90]]  # fmt: skip
    a = task(tmp_path / "a", train=rows[::2], validation=rows[1::2])
    assert len(find_overlaps(tmp_path, {"a": a})) <= len(rows) // 2


def test_leaked_rows_are_those_of_the_kinds_row_and_near(tmp_path):
    passage, near = sentence(1, 60), changed(sentence(4), 9)
    a = task(tmp_path / "a", train=[(passage, sentence(2, 6)), sentence(3), near],
             validation=[(passage, sentence(5, 6)), sentence(3), sentence(4)])  # fmt: skip
    kinds = [row[2] for row in find_overlaps(tmp_path, {"a": a})]
    assert kinds == ["text", "row", "near"]
    assert overlap.leaked(tmp_path / "out", "a").tolist() == [1, 2]
    assert overlap.leaked(tmp_path / "out", "b").tolist() == []
    shown = overlap.examples(tmp_path / "out", {"a": a})
    assert [row["kind"] for row in shown] == ["row", "near", "text"]
    assert shown[0]["reads"] == sentence(3)


def test_shingles_never_cross_rows():
    rows = pa.array(["a b c d", "", "e f", "g h i"])
    words = fingerprint.words(rows)
    assert words.lengths.tolist() == [4, 0, 2, 3] == fingerprint.word_counts(rows).tolist()
    shingles = fingerprint.shingles(words)
    assert shingles.lengths.tolist() == [2, 0, 0, 1]
    again = fingerprint.shingles(fingerprint.words(pa.array(["g h i"])))
    assert shingles.values[-1] == again.values[0]
    assert len(fingerprint.bands(shingles.take(np.array([], np.int64)))) == 0
