"""Rows of a shard become token rows: one function for each family.

Every text goes through here, in training and in evaluation, with a tokenizer of ``specials``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from muppet_dag.catalogue import Task
from muppet_dag.corpus import gaps

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


@dataclass(frozen=True)
class TokenSpec:
    """How long model inputs may get, in tokens. ``stride`` is what neighbouring windows share."""

    max_length: int = 512
    stride: int = 128
    max_target_length: int = 128


@dataclass
class Row:
    """One token row before it becomes columns; ``example`` is the shard row."""

    example: int
    sequences: list[Encoding]
    label: int | None = None
    score: float | None = None
    start: int | None = None
    end: int | None = None
    passage: tuple[int, int] | None = None
    offsets: np.ndarray | None = None
    target: list[int] | None = None


def _classification(
    tokenizer: Tokenizer, task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[Row]:
    """A text or a pair; a regression score is brought to [0, 1]."""
    pairs = [_pair(a, b) for a, b in zip(rows["text"], rows["query"], strict=True)]
    tokenizer.enable_truncation(spec.max_length, strategy="longest_first")
    encoded = tokenizer.encode_batch_fast(pairs)
    low, high = task.score_range or (0.0, 1.0)
    scores = [None if score is None else (score - low) / (high - low) for score in rows["score"]]
    labelled = enumerate(zip(encoded, rows["label"], scores, strict=True))
    return [Row(first + i, [e], label=label, score=score) for i, (e, label, score) in labelled]


def _commonsense(
    tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[Row]:
    """All candidates of a question stay in one row: context, then question with candidate."""
    tokenizer.enable_truncation(spec.max_length, strategy="longest_first")
    columns = zip(rows["text"], rows["query"], rows["choices"], strict=True)
    pairs = [[_candidate(text, query, c) for c in choices] for text, query, choices in columns]
    encoded = iter(tokenizer.encode_batch_fast([pair for group in pairs for pair in group]))
    return [
        Row(first + i, [next(encoded) for _ in group], label=rows["label"][i])
        for i, group in enumerate(pairs)
    ]


def _candidate(text: str, query: str | None, choice: str) -> str | tuple[str, str]:
    """Context, and the question with the candidate in its gaps or behind it."""
    if not query:
        return (text, choice) if text else choice
    filled = gaps.fill(query, choice)
    if not text:
        return _pair(query, choice) if filled is None else filled
    return text, f"{query} {choice}" if filled is None else filled


def _summarization(
    tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[Row]:
    tokenizer.enable_truncation(spec.max_length)
    sources = tokenizer.encode_batch_fast(rows["text"])
    tokenizer.enable_truncation(spec.max_target_length)
    targets = tokenizer.encode_batch_fast(rows["target"])
    both = enumerate(zip(sources, targets, strict=True))
    return [Row(first + i, [source], target=target.ids) for i, (source, target) in both]


def _mrc(tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int) -> list[Row]:
    """Sliding windows over the passage; each holds the whole question.

    A window that does not hold the whole answer has the span (0, 0), the no-answer position.
    """
    # Every window must go on by a token at least, or the library panics.
    room = spec.max_length - tokenizer.num_special_tokens_to_add(True) - spec.stride - 1
    queries = _shortened(tokenizer, rows["query"], min(spec.max_length // 2, room))
    tokenizer.enable_truncation(spec.max_length, stride=spec.stride, strategy="only_second")
    encoded = tokenizer.encode_batch(list(zip(queries, rows["text"], strict=True)))
    out = []
    for i, (encoding, answers) in enumerate(zip(encoded, rows["answers"], strict=True)):
        for window in [encoding, *encoding.overflowing]:
            out.append(_window(first + i, window, answers))
    return out


ENCODE = {
    "classification": _classification,
    "commonsense": _commonsense,
    "mrc": _mrc,
    "summarization": _summarization,
}


def _window(example: int, window: Encoding, answers: list[dict]) -> Row:
    segments = np.array([-1 if s is None else s for s in window.sequence_ids])
    positions = np.flatnonzero(segments == 1)
    first, last = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
    offsets = np.array(window.offsets, np.int32).reshape(-1, 2)[first:last]
    start = end = 0
    if answers and len(offsets):
        low, high = answers[0]["start"], answers[0]["start"] + len(answers[0]["text"])
        if offsets[0, 0] <= low and high <= offsets[-1, 1]:
            start = first + int(np.searchsorted(offsets[:, 0], low, side="right")) - 1
            end = first + int(np.searchsorted(offsets[:, 1], high, side="left"))
    return Row(example, [window], start=start, end=end, passage=(first, last), offsets=offsets)


def _shortened(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[str]:
    """Texts cut to at most ``most`` tokens, so that a question leaves room for its passage."""
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    pairs = zip(texts, encoded, strict=True)
    return [t if len(e) <= most else _cut(tokenizer, t, e, most) for t, e in pairs]


def _cut(tokenizer: Tokenizer, text: str, whole: Encoding, most: int) -> str:
    """The start of a text. Its last word may be read as more tokens than it was in the whole."""
    for keep in range(most, 0, -1):
        start = text[: whole.offsets[keep - 1][1]]
        if len(tokenizer.encode(start, add_special_tokens=False)) <= most:
            return start
    return ""


def _pair(first: str, second: str | None) -> str | tuple[str, str]:
    return first if second is None else (first, second)
