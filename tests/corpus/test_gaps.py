"""Gaps of a question: which runs of ``_`` are one, and that all other text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.corpus.gaps import fill

MANY = settings(max_examples=200, deadline=None)
#: Any text of one line or several; a ``_`` may stand in a name only.
PLAIN = st.text(st.characters(exclude_characters="_", exclude_categories=["Cs"]), max_size=12)
GAPS = st.integers(1, 12).map("_".__mul__)
CANDIDATES = st.one_of(
    st.text(max_size=12), st.sampled_from(["\\1", "a_b", "____", "\\g<0>", "{}"])
)


@MANY
@given(first=PLAIN, rest=st.lists(st.tuples(GAPS, PLAIN), min_size=1, max_size=4), c=CANDIDATES)
def test_every_gap_is_filled_and_nothing_else_changes(first, rest, c):
    question = first + "".join(f" {gap} {text}" for gap, text in rest)
    assert fill(question, c) == first + "".join(f" {c} {text}" for _, text in rest)


@MANY
@given(before=PLAIN, gap=GAPS, end=st.sampled_from([".", "?", "!", ",", '".', " .", "", ")", "\n"]),
       c=CANDIDATES)  # fmt: skip
def test_signs_behind_a_gap_stay_where_they_are(before, gap, end, c):
    assert fill(f"{before} {gap}{end}", c) == f"{before} {c}{end}"


WORD = st.text(st.characters(categories=["Ll", "Lu", "Nd"], max_codepoint=0x24F), min_size=1)


@MANY
@given(first=WORD, gap=st.integers(1, 4).map("_".__mul__), second=WORD, around=PLAIN)
def test_a_name_has_no_gap(first, gap, second, around):
    assert fill(f"{around} {first}{gap}{second} {around}", "blue") is None


@MANY
@given(
    name=WORD, question=st.sampled_from(["what is {} ?", "{}", "see {} here", "({})", "{}{{2}}"])
)
def test_underlines_at_the_ends_of_a_name_are_none(name, question):
    for each in (f"_{name}", f"__{name}__", f"{name}_{name}", f"_{name}_{name}", f"{name}_a{name}"):
        assert fill(question.format(each), "blue") is None
    assert fill(f"what is {name}_ ?", "blue") is None


@pytest.mark.parametrize(
    ("question", "filled"),
    [
        ("the sky is ____ .", "the sky is X ."),
        ("what does get_name return ?", None),
        ("a teacher pours CO_{2} gas over it", None),
        ("Cu(NO_{3})_{2}", None),
        ("It is made up of  _  .", "It is made up of  X  ."),  # RACE
        ("_   is not at school today.", "X   is not at school today."),
        ("The purpose of the campaign is to_.", "The purpose of the campaign is to X."),
        ("If you have only hand luggage,_.", "If you have only hand luggage, X."),
        ('The sentence means"_".', 'The sentence means"X".'),
        ("The news was taken from a(a n)_.", "The news was taken from a(a n)X."),
        ("According to the passage, there are_in the United States.", None),
        ("on buses between 1:00 a.m. and 3:00_p.m.?", None),
        ("www.k@s@5@u.com_####", None),
        ("____ burns from the energy of ____", "X burns from the energy of X"),  # OpenBookQA
        ("If water gets _____, it may react", "If water gets X, it may react"),
        ("He is going to______.", "He is going to X."),  # DREAM
        ("There are ______reasons for people", "There are X reasons for people"),
        ("in this order:______.", "in this order: X."),
        ("Adult urochordates are _-shaped.", "Adult urochordates are X-shaped."),  # QASC
        ("6,61 , 212,507 , _ ?", "6,61 , 212,507 , X ?"),  # MathQA
        ("It costs $____.", "It costs $X."),
        ("why ^_^ ?", None),
        ("他昨天去了____学校。", "他昨天去了X学校。"),
        ("no gap here", None),
    ],
)
def test_questions_as_they_are_in_the_data(question, filled):
    assert fill(question, "X") == filled
