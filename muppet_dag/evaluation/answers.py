"""Answers as text: exact match and F1 as the official scripts of the data sets compute them.

Each script has its own idea of which answers are equal (arXiv:1606.05250, 1806.03822, 1705.03551,
1903.00161); all keep the best over the accepted answers of a question and average over questions.
ReCoRD's script is that of SQuAD. What the raw rows accept beyond the spans of the passage is not
known here: the shards hold the answers that stand in it, and the parts of an answer of several
spans (DROP) as alternatives, so that no alignment of spans is left to do.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation))
#: TriviaQA puts a blank for punctuation, and knows four more quotation marks.
_BLANK_PUNCTUATION = dict.fromkeys(map(ord, string.punctuation + "‘’´`"), " ")


def _squad(text: str) -> str:
    """In lower case, without punctuation, articles and spare white space (evaluate-v2.0.py)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _trivia(text: str) -> str:
    """As SQuAD's, but what punctuation parts stays apart (triviaqa_evaluation.py)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_BLANK_PUNCTUATION)).split())


def _drop(text: str) -> str:
    """Word by word, parted by hyphens too; a number is its value (drop_eval.py)."""
    words = (_drop_word(word) for word in re.split(" |-", text.lower()))
    return " ".join(word for word in words if word)


def _drop_word(word: str) -> str:
    bare = word if _is_number(word) else word.translate(_NO_PUNCTUATION)
    bare = str(float(bare)) if _is_number(bare) else bare
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _overlap(predicted: str, gold: str) -> float:
    """F1 of the words, each as often as it comes; 0 where none is shared."""
    predicted_words, gold_words = predicted.split(), gold.split()
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    return 2 * shared / (len(predicted_words) + len(gold_words)) if shared else 0.0


def _squad_f1(predicted: str, gold: str) -> float:
    return _overlap(predicted, gold) if predicted and gold else float(predicted == gold)


def _drop_f1(predicted: str, gold: str) -> float:
    """F1 of the sets of words; 0 if the gold answer has numbers and none of them is predicted."""
    predicted_words, gold_words = set(predicted.split()), set(gold.split())
    numbers = {word for word in gold_words if _is_number(word)}
    if numbers and not numbers & predicted_words:
        return 0.0
    shared, total = len(gold_words & predicted_words), len(gold_words) + len(predicted_words)
    return 2 * shared / total if total else 1.0


@dataclass(frozen=True)
class _Script:
    """How a data set compares answers. ``digits`` is what it rounds a question's F1 to.

    ``accepts`` says which gold answers count, by their text and what it is normalised to.
    """

    normalize: Callable[[str], str]
    f1: Callable[[str, str], float]
    accepts: Callable[[str, str], bool]
    digits: int | None = None


#: By the prefix of the metrics' names.
_SCRIPTS = {
    "": _Script(_squad, _squad_f1, accepts=lambda text, normal: bool(normal)),
    "trivia_": _Script(_trivia, _overlap, accepts=lambda text, normal: True),
    "drop_": _Script(_drop, _drop_f1, accepts=lambda text, normal: bool(text.strip()), digits=2),
}


def score(
    metrics: Sequence[str], predicted: Sequence[str], gold: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Means over the rows, fractions in float64. ``gold`` holds the accepted answers of each.

    Where none is accepted the question is unanswerable: "" is right, anything else is wrong.
    """
    values: dict[str, float] = {}
    for prefix, script in _SCRIPTS.items():
        if not {f"{prefix}exact_match", f"{prefix}f1"} & set(metrics):
            continue
        rows = np.array(_rows(script, predicted, gold))
        exact, f1 = rows.T
        f1 = f1 if script.digits is None else np.round(f1, script.digits)
        values[f"{prefix}exact_match"] = math.fsum(exact) / len(rows)
        values[f"{prefix}f1"] = math.fsum(f1) / len(rows)
    return {name: values[name] for name in metrics}


def _rows(
    script: _Script, predicted: Sequence[str], gold: Sequence[Sequence[str]]
) -> list[tuple[float, float]]:
    """Exact match and F1 of every row, the best over its accepted answers."""
    normalize = cache(script.normalize)
    out: list[tuple[float, float]] = []
    for prediction, texts in zip(predicted, gold, strict=True):
        answer = normalize(prediction)
        # A set, since several annotators often write the same.
        accepted = {normal for text in texts if script.accepts(text, normal := normalize(text))}
        f1 = max((script.f1(answer, each) for each in accepted), default=float(not answer))
        out.append((float(answer in (accepted or {""})), f1))
    return out
