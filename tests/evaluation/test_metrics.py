"""Metrics against values that are known by hand or from the definitions."""

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize.punkt import PunktSentenceTokenizer
from rouge_score.rouge_scorer import RougeScorer

from muppet_dag.catalogue import TASKS
from muppet_dag.errors import BadConfig
from muppet_dag.evaluation.metrics import METRICS, primary, score

SHARED = Path(__file__).parents[2].parent / "shared"


def one(family, metric, predicted, gold, groups=None):
    return score(family, [metric], predicted, gold, groups)[metric]


@pytest.mark.parametrize(
    ("metric", "predicted", "gold", "value"),
    [
        ("accuracy", [1, 0, 1, 1], [1, 0, 0, 1], 3 / 4),
        # class 1: precision 2/3, recall 2/2
        ("f1", [1, 0, 1, 1], [1, 0, 0, 1], 4 / 5),
        # class 0: precision 1, recall 1/2 -> 2/3; class 1 -> 4/5
        ("macro_f1", [1, 0, 1, 1], [1, 0, 0, 1], (2 / 3 + 4 / 5) / 2),
        # class 2 is never predicted and counts as 0
        ("macro_f1", [0, 1, 0], [0, 1, 2], (2 / 3 + 1 + 0) / 3),
        # TP 2, TN 1, FP 1, FN 0: (2*1 - 0) / sqrt(3 * 2 * 2 * 1)
        ("matthews", [1, 0, 1, 1], [1, 0, 0, 1], 2 / math.sqrt(12)),
        ("matthews", [0, 1, 1, 0], [1, 0, 0, 1], -1.0),
        ("matthews", [1, 1, 1, 1], [1, 0, 0, 1], 0.0),
        ("pearson", [1.0, 2.0, 3.0], [2.0, 4.0, 6.0], 1.0),
        ("pearson", [1.0, 2.0, 3.0], [1.0, 3.0, 2.0], 0.5),
        # monotone, not linear
        ("spearman", [1.0, 10.0, 100.0], [1.0, 2.0, 3.0], 1.0),
        ("spearman", [3.0, 2.0, 1.0], [1.0, 2.0, 30.0], -1.0),
    ],
)
def test_classification_by_hand(metric, predicted, gold, value):
    assert one("classification", metric, predicted, gold) == pytest.approx(value)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize("predicted", [[2.5, 2.5, 2.5], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]])
def test_a_correlation_that_is_not_defined_is_zero(metric, predicted):
    value = one("classification", metric, predicted, [1.0, 2.0, 3.0])
    assert math.isfinite(value)
    if metric == "pearson" or math.inf not in predicted:  # ranks are defined for infinity
        assert value == 0.0


def test_a_correlation_of_one_row_is_zero():
    assert one("classification", "pearson", [1.0], [1.0]) == 0.0


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "matthews", "accuracy"])
def test_one_class_only_stays_finite(metric):
    assert math.isfinite(one("classification", metric, [0, 0], [0, 0]))


def test_question_exact_match_needs_every_row_of_a_question():
    groups = ["0-1", "0-1", "0-2", "0-2", "0-3"]
    value = one("classification", "question_exact_match", [1, 0, 1, 1, 0], [1, 0, 1, 0, 0], groups)
    assert value == pytest.approx(2 / 3)
    with pytest.raises(BadConfig, match="groups"):
        one("classification", "question_exact_match", [1], [1])


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "f1"),
    [
        ("the  Eiffel-Tower!", ["Eiffeltower"], 1, 1),  # articles, punctuation, case, spaces
        ("An apple a day", ["apple day"], 1, 1),
        ("Norman", ["The Normans", "norman."], 1, 1),  # the best over several golds
        ("big red dog", ["red dog", "cat"], 0, 0.8),  # precision 2/3, recall 2/2
        ("", [], 1, 1),  # unanswerable and left open
        ("Paris", [], 0, 0),
        ("", ["Paris"], 0, 0),
        ("", ["Paris", ""], 0, 0),  # blank golds beside real ones do not count
        ("the", [], 1, 1),  # normalises to nothing, as in the official script
    ],
)
def test_squad_as_the_official_script(predicted, gold, exact, f1):
    values = score("mrc", ["exact_match", "f1"], [predicted], [gold])
    assert values == pytest.approx({"exact_match": exact, "f1": f1})


def test_squad_is_a_mean_of_fractions():
    values = score("mrc", ["f1", "exact_match"], ["", "a b", "x"], [[], ["b c"], ["x"]])
    assert list(values) == ["f1", "exact_match"]  # in the order asked for
    # "a" is an article: "b" against "b c" has precision 1, recall 1/2
    assert values == pytest.approx({"f1": (1 + 2 / 3 + 1) / 3, "exact_match": 2 / 3})


def test_rouge_by_hand():
    values = score("summarization", METRICS["summarization"], ["the cats sat"], ["a cat sat down"])
    # stemming makes cats = cat: 2 unigrams and 1 bigram in common of 3 and 4 words
    assert values == pytest.approx(
        {"rouge1": 4 / 7, "rouge2": 2 / 5, "rougeL": 4 / 7, "rougeLsum": 4 / 7}
    )


def test_rouge_lsum_takes_lines_as_sentences():
    predicted, gold = ["b d\na c"], ["a c\nb d"]
    values = score("summarization", ["rougeL", "rougeLsum"], predicted, gold)
    assert values == pytest.approx({"rougeL": 0.5, "rougeLsum": 1.0})


SENTENCES = st.lists(
    st.sampled_from(["The cat sat.", "A dog barked!", "Did it?", "No one came .", "It rained."]),
    min_size=1, max_size=5,
)  # fmt: skip


@given(
    SENTENCES, SENTENCES, st.sampled_from([" ", "\n", " \n ", "\r\n"]), st.sampled_from([" ", "\n"])
)
@settings(max_examples=50, deadline=None)
def test_line_breaks_of_either_side_make_no_difference_to_rouge(predicted, gold, one, other):
    names = METRICS["summarization"]
    plain = score("summarization", names, [" ".join(predicted)], [" ".join(gold)])
    assert score("summarization", names, [one.join(predicted)], [other.join(gold)]) == plain


def test_rouge_lsum_of_sentences_in_another_order():
    predicted, gold = ["A dog barked. The cat sat."], ["The cat sat. A dog barked."]
    values = score("summarization", ["rougeL", "rougeLsum"], predicted, gold)
    assert values == pytest.approx({"rougeL": 0.5, "rougeLsum": 1.0})


def test_a_summary_of_several_sentences_is_compared_sentence_by_sentence():
    """LEAD-3 on real rows of CNN/DailyMail: their order costs rougeL more than a quarter."""
    path = SHARED / "hub/abisee/cnn_dailymail/3.0.0/train-00000-of-00001.parquet"
    if not path.is_file():
        pytest.skip("no real rows of CNN/DailyMail here")
    rows = pq.read_table(path).slice(0, 100).to_pylist()
    sentences = PunktSentenceTokenizer().tokenize
    lead = [" ".join(sentences(row["article"])[:3]) for row in rows]
    names = [*TASKS["cnn_dailymail"].metrics, "rougeL"]
    values = score("summarization", names, lead, [row["highlights"] for row in rows])
    assert values["rougeL"] == pytest.approx(0.190, abs=0.002)
    assert values["rougeLsum"] == pytest.approx(0.264, abs=0.002)


@pytest.mark.parametrize(
    ("predicted", "gold", "rouge1"),
    [
        ("Мама мыла раму.", "мама мыла окно", 2 / 3),
        ("今天天气很好", "今天天气不好", 5 / 6),  # sign by sign
        ("Η γάτα κοιμάται", "η ΓΆΤΑ κοιμάται", 1),
        ("GPT-4 пишет 東京 well", "gpt 4 пишет 東 well", 10 / 11),
        ("café society", "caf society", 2 * 2 / 4),  # as Google has it: é parts words
    ],
)
def test_rouge_knows_words_of_every_script(predicted, gold, rouge1):
    values = score("summarization", ["rouge1", "rougeLsum"], [predicted], [gold])
    assert values["rouge1"] == pytest.approx(rouge1)
    perfect = score("summarization", ["rouge1", "rougeLsum"], [gold], [gold])
    assert perfect == {"rouge1": 1, "rougeLsum": 1}


@given(st.lists(st.text(st.characters(max_codepoint=0x24F)), min_size=2, max_size=2))
@settings(max_examples=80, deadline=None)
def test_rouge_of_latin_text_is_googles(texts):
    names = ["rouge1", "rouge2", "rougeL"]
    scores = RougeScorer(names, use_stemmer=True).score(*texts)
    expected = {name: scores[name].fmeasure for name in names}
    assert score("summarization", names, texts[1:], texts[:1]) == pytest.approx(expected)


def test_values_are_plain_floats():
    import numpy as np

    labels = np.array([0, 1, 1])
    values = score("classification", ["accuracy", "f1", "matthews", "pearson"], labels, labels)
    assert all(type(value) is float for value in values.values())
    assert values == {"accuracy": 1.0, "f1": 1.0, "matthews": 1.0, "pearson": pytest.approx(1.0)}


def test_what_is_allowed_is_named():
    with pytest.raises(BadConfig, match="'bleu': a summarization task may have rouge1"):
        score("summarization", ["bleu"], ["a"], ["a"])
    with pytest.raises(BadConfig, match="expected one of classification"):
        score("vision", ["accuracy"], [1], [1])
    with pytest.raises(BadConfig, match="at least one"):
        score("mrc", [], [""], [[]])
    with pytest.raises(ValueError, match="'predicted': 1, 'gold': 2"):
        score("classification", ["accuracy"], [1], [1, 0])
    with pytest.raises(ValueError, match="at least one"):
        score("classification", ["accuracy"], [], [])


def test_primary_is_the_first():
    assert primary(("f1", "accuracy")) == "f1"
