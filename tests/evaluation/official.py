"""The data sets' own evaluation scripts, kept as near to their text as may be.

evaluate-v2.0.py (SQuAD), triviaqa_evaluation.py, drop_eval.py and ReCoRD's evaluate.py, each from
the bare strings to (exact match, F1) of one question. Slow and repetitive on purpose: what they
are compared with shares none of it.
"""

from __future__ import annotations

import collections
import re
import string

import numpy as np
from scipy.optimize import linear_sum_assignment


def squad(prediction: str, answers: list[str]) -> tuple[float, float]:
    def normalize_answer(s):
        def remove_articles(text):
            return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

        def white_space_fix(text):
            return " ".join(text.split())

        def remove_punc(text):
            exclude = set(string.punctuation)
            return "".join(ch for ch in text if ch not in exclude)

        return white_space_fix(remove_articles(remove_punc(s.lower())))

    def get_tokens(s):
        return normalize_answer(s).split() if s else []

    def compute_f1(a_gold, a_pred):
        gold_toks, pred_toks = get_tokens(a_gold), get_tokens(a_pred)
        common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
        num_same = sum(common.values())
        if len(gold_toks) == 0 or len(pred_toks) == 0:
            return int(gold_toks == pred_toks)
        if num_same == 0:
            return 0
        precision, recall = 1.0 * num_same / len(pred_toks), 1.0 * num_same / len(gold_toks)
        return (2 * precision * recall) / (precision + recall)

    gold = [a for a in answers if normalize_answer(a)] or [""]
    return (
        max(int(normalize_answer(a) == normalize_answer(prediction)) for a in gold),
        max(compute_f1(a, prediction) for a in gold),
    )


def record(prediction: str, answers: list[str]) -> tuple[float, float]:
    def normalize_answer(s):
        s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", s).split())

    def f1_score(truth):
        prediction_tokens = normalize_answer(prediction).split()
        ground_truth_tokens = normalize_answer(truth).split()
        common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
        if not (num_same := sum(common.values())):
            return 0
        precision = 1.0 * num_same / len(prediction_tokens)
        recall = 1.0 * num_same / len(ground_truth_tokens)
        return (2 * precision * recall) / (precision + recall)

    exact = max(normalize_answer(prediction) == normalize_answer(truth) for truth in answers)
    return float(exact), max(f1_score(truth) for truth in answers)


def trivia(prediction: str, answers: list[str]) -> tuple[float, float]:
    def normalize_answer(s):
        def remove_articles(text):
            return re.sub(r"\b(a|an|the)\b", " ", text)

        def white_space_fix(text):
            return " ".join(text.split())

        def handle_punc(text):
            exclude = set(string.punctuation + "".join(["‘", "’", "´", "`"]))
            return "".join(ch if ch not in exclude else " " for ch in text)

        def replace_underscore(text):
            return text.replace("_", " ")

        bare = handle_punc(replace_underscore(s).lower())
        return white_space_fix(remove_articles(bare)).strip()

    def f1_score(ground_truth):
        prediction_tokens = normalize_answer(prediction).split()
        ground_truth_tokens = normalize_answer(ground_truth).split()
        common = collections.Counter(prediction_tokens) & collections.Counter(ground_truth_tokens)
        num_same = sum(common.values())
        if num_same == 0:
            return 0
        precision = 1.0 * num_same / len(prediction_tokens)
        recall = 1.0 * num_same / len(ground_truth_tokens)
        return (2 * precision * recall) / (precision + recall)

    exact = max(normalize_answer(prediction) == normalize_answer(truth) for truth in answers)
    return float(exact), max(f1_score(truth) for truth in answers)


def drop(prediction: str, answers: list[str]) -> tuple[float, float]:
    best_em = best_f1 = 0.0
    for gold in answers:
        em, f1 = _drop_get_metrics([prediction], [gold])
        if gold.strip() != "":
            best_em, best_f1 = max(best_em, em), max(best_f1, f1)
    return best_em, float(best_f1)


def _drop_is_number(text):
    try:
        float(text)
        return True
    except ValueError:
        return False


def _drop_normalize_answer(text):
    def remove_punc(text):
        exclude = set(string.punctuation)
        if not _drop_is_number(text):
            return "".join(ch for ch in text if ch not in exclude)
        return text

    def normalize_number(text):
        return str(float(text)) if _drop_is_number(text) else text

    def remove_articles(text):
        return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

    parts = [
        " ".join(remove_articles(normalize_number(remove_punc(token.lower()))).split())
        for token in re.split(" |-", text)
    ]
    return " ".join(part for part in parts if part.strip()).strip()


def _drop_get_metrics(predicted, gold):
    def to_bags(raw_spans):
        normalized = [_drop_normalize_answer(span) for span in raw_spans]
        return normalized, [set(span.split()) for span in normalized]

    def compute_f1(predicted_bag, gold_bag):
        intersection = len(gold_bag.intersection(predicted_bag))
        precision = intersection / float(len(predicted_bag)) if predicted_bag else 1.0
        recall = intersection / float(len(gold_bag)) if gold_bag else 1.0
        if precision == 0.0 and recall == 0.0:
            return 0.0
        return (2 * precision * recall) / (precision + recall)

    def match_numbers_if_present(gold_bag, predicted_bag):
        gold_numbers = {word for word in gold_bag if _drop_is_number(word)}
        predicted_numbers = {word for word in predicted_bag if _drop_is_number(word)}
        return bool(not gold_numbers or gold_numbers.intersection(predicted_numbers))

    (predicted_spans, predicted_bags), (gold_spans, gold_bags) = to_bags(predicted), to_bags(gold)
    same = set(predicted_spans) == set(gold_spans) and len(predicted_spans) == len(gold_spans)
    scores = np.zeros([len(gold_bags), len(predicted_bags)])
    for g, gold_bag in enumerate(gold_bags):
        for p, predicted_bag in enumerate(predicted_bags):
            if match_numbers_if_present(gold_bag, predicted_bag):
                scores[g, p] = compute_f1(predicted_bag, gold_bag)
    row_ind, col_ind = linear_sum_assignment(-scores)
    max_scores = np.zeros([max(len(gold_bags), len(predicted_bags))])
    for row, column in zip(row_ind, col_ind, strict=True):
        max_scores[row] = max(max_scores[row], scores[row, column])
    return float(same), round(np.mean(max_scores), 2)
