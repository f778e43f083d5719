"""Metrics by name, computed by the libraries that maintain them where there is one.

Values are fractions: 0 to 1, correlations -1 to 1. Showing them times 100 is the leaderboard's job.
Sources: scikit-learn (accuracy, F1, Matthews), SciPy (Pearson, Spearman), rouge-score (Google's
ROUGE), NLTK (its sentences); the official scripts of reading tasks are re-told in ``answers``.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Sequence

from muppet_dag.catalogue.task import METRICS
from muppet_dag.errors import BadConfig
from muppet_dag.evaluation import answers


def score(
    family: str,
    metrics: Sequence[str],
    predicted: Sequence,
    gold: Sequence,
    groups: Sequence[str] | None = None,
) -> dict[str, float]:
    """Score one row per prediction; the result has the given metrics in the given order.

    ``predicted`` and ``gold`` hold, by family: class indices (numbers where the task is a
    regression), indices of choices, answer strings against lists of accepted answers (an empty
    list: unanswerable, "" is right), summaries against summaries. ``groups`` names the question
    that each row belongs to, for ``question_exact_match``.

    Raises BadConfig for an unknown family or metric, ValueError for no rows or unequal lengths.
    """
    check(family, metrics)
    sizes = {"predicted": len(predicted), "gold": len(gold)}
    sizes |= {} if groups is None else {"groups": len(groups)}
    if len(set(sizes.values())) != 1 or not len(gold):
        raise ValueError(f"expected equally many rows and at least one, found {sizes}")
    if family == "mrc":
        return answers.score(metrics, predicted, gold)
    if family == "summarization":
        return _rouge(metrics, predicted, gold)
    return {name: _by_row(name, predicted, gold, groups) for name in metrics}


def check(family: str, metrics: Sequence[str]) -> None:
    """Raise BadConfig unless every metric is one of the family's."""
    if family not in METRICS:
        raise BadConfig(f"family {family!r}: expected one of {', '.join(METRICS)}")
    for name in metrics:
        if name not in METRICS[family]:
            allowed = ", ".join(METRICS[family])
            raise BadConfig(f"metric {name!r}: a {family} task may have {allowed}")
    primary(metrics)


def primary(metrics: Sequence[str]) -> str:
    """The metric a task is judged by: the first that its entry lists."""
    if not metrics:
        raise BadConfig("metrics: expected at least one name, the first is the primary metric")
    return metrics[0]


def _by_row(name: str, predicted: Sequence, gold: Sequence, groups: Sequence[str] | None) -> float:
    from scipy import stats
    from sklearn import metrics as sk

    if name == "pearson":
        return _correlation(stats.pearsonr, predicted, gold)
    if name == "spearman":
        return _correlation(stats.spearmanr, predicted, gold)
    if name == "question_exact_match":
        return _question_exact_match(predicted, gold, groups)
    if name == "f1":
        return float(sk.f1_score(gold, predicted, pos_label=1, zero_division=0.0))
    if name == "macro_f1":
        return float(sk.f1_score(gold, predicted, average="macro", zero_division=0.0))
    if name == "matthews":
        return float(sk.matthews_corrcoef(gold, predicted))
    return float(sk.accuracy_score(gold, predicted))


def _correlation(function: Callable, predicted: Sequence, gold: Sequence) -> float:
    """Pearson or Spearman; 0 where SciPy leaves it undefined.

    Constant predictions (a model that collapsed) have no variance, so the quotient is 0 / 0. Such
    a model has learned nothing about the order of the rows, and 0 says that; a NaN would poison
    every mean above it. The same holds for a single row and for predictions that are not finite.
    """
    if len(gold) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the "input is constant" warning: handled here
        value = float(function(predicted, gold).statistic)
    return value if math.isfinite(value) else 0.0


def _question_exact_match(
    predicted: Sequence, gold: Sequence, groups: Sequence[str] | None
) -> float:
    """Share of questions all of whose rows are right (MultiRC's EM; arXiv:1905.00537, 3.2)."""
    if groups is None:
        raise BadConfig("metric 'question_exact_match' needs groups: the question of each row")
    right: dict[str, bool] = {}
    for group, answer, truth in zip(groups, predicted, gold, strict=True):
        right[group] = right.get(group, True) and bool(answer == truth)
    return sum(right.values()) / len(right)


def _rouge(
    metrics: Sequence[str], predicted: Sequence[str], gold: Sequence[str]
) -> dict[str, float]:
    """Mean F-measure with Porter stemming (Lin 2004); words are those of ``_Words``.

    ``rougeL`` takes a summary as one sequence of words; ``rougeLsum`` compares it sentence by
    sentence, which is what tables of summaries of several sentences show as ROUGE-L.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(metrics), tokenizer=_Words())
    pairs = zip(_by_sentence(gold), _by_sentence(predicted), strict=True)
    rows = [scorer.score(truth, text) for truth, text in pairs]
    return {name: math.fsum(row[name].fmeasure for row in rows) / len(rows) for name in metrics}


class _Words:
    """Google's words for ROUGE, which are of a-z and 0-9 only, and those of all other scripts.

    Without the latter every summary in Russian or Chinese would score 0. What lies below U+0250
    (Latin letters with accents part words there) is as in published scores; signs of scripts that
    do not part words by blanks are words of their own.
    """

    #: Thai to Tibetan, Burmese, Khmer, kana, Chinese characters.
    _SIGN = (
        r"[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
    )
    _PARTS = re.compile(rf"[\x00-\u024f]+|(?!\W){_SIGN}|(?:(?!{_SIGN})[^\W\x00-\u024f])+")

    def __init__(self) -> None:
        from rouge_score.tokenizers import DefaultTokenizer

        self._latin = DefaultTokenizer(use_stemmer=True).tokenize

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in their order, in lower case, English ones stemmed."""
        words: list[str] = []
        for part in self._PARTS.findall(text):
            words += self._latin(part) if part[0] < "\u0250" else [part.lower()]
        return words


def _by_sentence(texts: Sequence[str]) -> list[str]:
    """Texts with one sentence a line.

    Gold and predicted texts alike, whichever line breaks they have: some data sets break lines
    between sentences, most do not, and many tokenizers lose breaks. Punkt without parameters knows
    no language's abbreviations, and needs no download.
    """
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    sentences = PunktSentenceTokenizer().tokenize
    return [
        "\n".join(part for line in text.splitlines() for part in sentences(line)) for text in texts
    ]
