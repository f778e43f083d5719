"""Reading metrics are those of the data sets' own scripts, to the last bit that matters."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muppet_dag.evaluation.metrics import score
from tests.evaluation import official

some = settings(max_examples=150, deadline=None)
#: What the scripts treat in ways of their own, beside any text at all.
WORDS = st.sampled_from([
    "a", "an", "the", "\n", "THE,", "cat", "cats", "Cat's", "3", "3.0", "3.50", "$3.5", "1,200",
    "1200", "-3", "5%", "1e3", "nan", "1_000", "I-95", "3-yard", "twenty-two", "New_York", "‘tis",
    "it’s", "U.S.", "...", "–", "«", "Über", "caf\u00e9", "cafe\u0301", "東京", "\u2003", "an.a",
])  # fmt: skip
ANSWER = st.lists(WORDS | st.text(max_size=4), max_size=5).map(" ".join)
ANSWERS = st.lists(ANSWER, min_size=1, max_size=4)
#: Scripts but SQuAD's have no unanswerable questions, and never see an answer of no words.
REAL = ANSWERS.map(lambda texts: [f"{text} x9" for text in texts])


def ours(prefix: str, rows: list[tuple[str, list[str]]]) -> tuple[float, float]:
    names = (f"{prefix}exact_match", f"{prefix}f1")
    predicted, gold = zip(*rows, strict=True)
    values = score("mrc", names, predicted, gold)
    return values[names[0]], values[names[1]]


def same(prefix: str, script: Callable, rows: list[tuple[str, list[str]]]) -> None:
    """Alone and together; a mean of fractions is exact to a few units in the last place."""
    expected = [script(*row) for row in rows]
    for row, values in zip(rows, expected, strict=True):
        assert ours(prefix, [row]) == pytest.approx(values, rel=0, abs=1e-14)
    means = tuple(sum(column) / len(rows) for column in zip(*expected, strict=True))
    assert ours(prefix, rows) == pytest.approx(means, rel=0, abs=1e-13)


@given(st.lists(st.tuples(ANSWER, ANSWERS | st.just([])), min_size=1, max_size=4))
@example([("the", []), ("", ["the"]), ("the who", ["The", "Who"]), ("", ["Paris", " "])])
@some
def test_squad(rows):
    same("", official.squad, rows)


@given(st.lists(st.tuples(ANSWER, REAL), min_size=1, max_size=4))
@some
def test_record_is_scored_as_squad(rows):
    same("", official.record, rows)


@given(st.lists(st.tuples(ANSWER, ANSWERS), min_size=1, max_size=4))
@example([("New York", ["New_York"]), ("it’s-so", ["it s so"]), ("AT&T", ["at t"])])
@some
def test_triviaqa(rows):
    same("trivia_", official.trivia, rows)


@given(st.lists(st.tuples(ANSWER, REAL), min_size=1, max_size=4))
@example([("3.0 yards", ["3 yards"]), ("4 yards", ["3 yards"]), ("a-b c", ["b"]), ("3", ["3%"])])
@some
def test_drop(rows):
    same("drop_", official.drop, rows)


def test_drop_rounds_each_question_as_its_script_does():
    """2 x 1 / 80 is 0.025, which NumPy's rounding takes down and Python's up."""
    many = " ".join(f"w{i}" for i in range(77))
    assert ours("drop_", [(f"x {many}", ["x y"])]) == (0, 0.02)


def test_the_scripts_differ_where_they_should():
    rows = [("twenty two", ["twenty-two"]), ("3", ["3.0"]), ("New York", ["New_York"])]
    exact = {p: [ours(p, [row])[0] for row in rows] for p in ("", "trivia_", "drop_")}
    assert exact == {"": [0, 0, 0], "trivia_": [1, 0, 1], "drop_": [1, 1, 0]}


def test_a_question_without_an_answer_wants_none():
    for prefix in ("", "trivia_", "drop_"):
        assert ours(prefix, [("", []), ("Paris", [])]) == (0.5, 0.5)


def test_a_thousand_thirds_are_a_third():
    """In 64 bits; summed in 32 they are off by 1e-6 and more."""
    values = score("mrc", ["f1"], ["b x y"] * 9999 + [""], [["b p q"]] * 9999 + [["z"]])
    assert values["f1"] == pytest.approx(0.3333, rel=0, abs=1e-15)


def test_the_validation_split_of_squad_takes_a_second():
    """10,570 questions of three or four answers: 0.3 s of one core here, by TorchMetrics 12 s."""
    words = [f"word{i % 997} of the {i % 89}th King, called number-{i}" for i in range(10_570)]
    gold = [[text, text.upper(), text[:20]] for text in words]
    before = time.process_time()
    score("mrc", ["exact_match", "f1"], [text[3:] for text in words], gold)
    assert time.process_time() - before < 1.3
