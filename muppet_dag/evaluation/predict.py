"""Prediction: what a model says of the rows of a split, in the task's own terms.

A classification or multiple-choice prediction is an index, a regression one a number, a reading
one the answer's text ("" for none), a summarization one the written summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from muppet_dag.corpus import shards
from muppet_dag.evaluation.predictions import Predictions, TaskFiles
from muppet_dag.mixture.batch import Batch, Tokens, collate
from muppet_dag.model import losses
from muppet_dag.model.layout import padded
from muppet_dag.model.multitask import MultiTaskModel
from muppet_dag.recipes import GenerationSection

#: Longest answer that a reading model may give, in tokens (as in the SQuAD baselines).
LONGEST_ANSWER = 30
GREEDY = GenerationSection(beams=1)


def predict(
    model: MultiTaskModel,
    task: TaskFiles,
    split: str,
    *,
    rows: int,
    device: torch.device,
    tokenizer: Path,
    generation: GenerationSection = GREEDY,
    batch_tokens: int = 8192,
    before_batch: Callable[[], object] = lambda: None,
) -> Predictions:
    """Predict at most ``rows`` examples of a split (the same ones each time).

    ``tokenizer`` is the folder of ``tokenizer.json``, read for summaries only, which are written as
    ``generation`` says; ``device`` is where the model is. The model's training mode is restored and
    no random number is drawn. ``before_batch`` is called before each batch; what it raises ends the
    prediction.
    """
    tokens = Tokens(Path(task.tokens), split)
    example = tokens.column("example")
    examples = chosen(int(example.max()) + 1, rows)
    gold = _Gold(task, split, examples)
    run = _Run(model, task, tokens, device, gold, tokenizer, generation)
    token_rows = np.flatnonzero(np.isin(example, examples))
    batches = _batches(task, tokens, token_rows, batch_tokens, before_batch)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            predicted = _PREDICT[task.head.kind](run, batches)
    finally:
        model.train(training)
    return Predictions(gold.ids, [predicted[int(e)] for e in examples], gold.values)


def chosen(total: int, rows: int) -> np.ndarray:
    """A fixed random choice of examples, sorted: the same for the same total and number."""
    if rows >= total:
        return np.arange(total)
    generator = np.random.Generator(np.random.Philox(key=total))
    return np.sort(generator.choice(total, rows, replace=False))


class _Gold:
    """The shard rows of the chosen examples: ids, gold values, and texts for reading tasks."""

    def __init__(self, task: TaskFiles, split: str, examples: np.ndarray) -> None:
        table = shards.read(Path(task.shards), split).take(pa.array(examples))
        columns = table.select(["label", "score", "answers", "target"])
        self.ids: list[str] = table.column("id").to_pylist()
        self.values = [_gold(row) for row in columns.to_pylist()]
        texts = table.column("text").to_pylist() if task.family == "mrc" else []
        self.texts: Mapping[int, str] = dict(zip(examples.tolist(), texts, strict=False))


def _gold(row: Mapping[str, Any]) -> Any:
    if row["answers"] is not None:
        return [answer["text"] for answer in row["answers"]]
    return next(row[k] for k in ("label", "score", "target") if row[k] is not None)


@dataclass(frozen=True)
class _Run:
    """What every way of predicting needs."""

    model: MultiTaskModel
    task: TaskFiles
    tokens: Tokens
    device: torch.device
    gold: _Gold
    tokenizer: Path
    generation: GenerationSection

    def logits(self, batch: Batch) -> Tensor:
        """What the task's head says, on the CPU."""
        return self.model.logits(self.task.head.name, batch.tensors()).cpu()


def _batches(
    task: TaskFiles, tokens: Tokens, rows: np.ndarray, budget: int,
    before_batch: Callable[[], object],
) -> Iterator[Batch]:  # fmt: skip
    """Rows of like length together, under a budget of padded tokens."""
    cost = tokens.column("width").astype(np.int64) * tokens.column("sequences")
    rows = rows[np.argsort(cost[rows], kind="stable")]
    at = 0
    while at < len(rows):
        count = np.arange(1, len(rows) - at + 1)
        fits = max(1, int(np.searchsorted(cost[rows[at:]] * count, budget, side="right")))
        before_batch()
        yield collate(task.name, tokens, rows[at : at + fits])
        at += fits


def _classes(run: _Run, batches: Iterator[Batch]) -> dict[int, int]:
    return _each(batches, lambda batch: run.logits(batch).argmax(-1))


def _numbers(run: _Run, batches: Iterator[Batch]) -> dict[int, float]:
    return _each(batches, lambda batch: run.logits(batch).float())


def _candidates(run: _Run, batches: Iterator[Batch]) -> dict[int, int]:
    def best(batch: Batch) -> Tensor:
        sequences = torch.from_numpy(batch.sequences)
        return losses.candidate_logits(run.logits(batch), sequences).argmax(-1)

    return _each(batches, best)


def _each(batches: Iterator[Batch], values_of: Callable[[Batch], Tensor]) -> dict[int, Any]:
    """One value per row, by example."""
    out: dict[int, Any] = {}
    for batch in batches:
        out.update(zip(batch.examples.tolist(), values_of(batch).tolist(), strict=True))
    return out


def _spans(run: _Run, batches: Iterator[Batch]) -> dict[int, str]:
    """The best span over all windows of a passage; "" where having no answer scores higher.

    As in SQuAD 2.0's baselines, the no-answer score of an example is its lowest over the windows.
    """
    best: dict[int, tuple[float, int, int]] = {}
    null: dict[int, float] = {}
    for batch in batches:
        logits = losses.wide(run.logits(batch))
        scores, places = best_spans(logits, torch.from_numpy(batch.passage))
        for example, none, *span in zip(
            batch.examples.tolist(), logits[:, 0].sum(-1).tolist(), scores.tolist(),
            *_characters(run, batch, places), strict=True,
        ):  # fmt: skip
            null[example] = min(none, null.get(example, none))
            best[example] = max(best.get(example, span), span, key=lambda each: each[0])
    texts = {e: run.gold.texts[e][start:end] for e, (_, start, end) in best.items()}
    if not run.task.unanswerable:
        return texts
    return {e: "" if null[e] > best[e][0] else text for e, text in texts.items()}


def best_spans(logits: Tensor, passage: Tensor) -> tuple[Tensor, Tensor]:
    """The best span of each window: its score (R,), and where it starts and ends in the passage,
    (R, 2), both inclusive.

    ``logits`` (R, L, 2) of starts and ends; ``passage`` (R, 2), half-open. A span ends no sooner
    than it starts, and holds at most ``LONGEST_ANSWER`` tokens. A window that has no room for the
    passage has an impossible score.
    """
    position = torch.arange(logits.shape[1])
    inside = (position >= passage[:, :1]) & (position < passage[:, 1:])
    start, end = logits.masked_fill(~inside[..., None], losses.IMPOSSIBLE / 2).unbind(-1)
    ends = F.pad(end, (0, LONGEST_ANSWER - 1), value=losses.IMPOSSIBLE / 2)
    # By start the best end that it may have; then, of the best start, which one that is.
    score, first = (start + F.max_pool1d(ends, LONGEST_ANSWER, 1)).max(-1)
    reach = first[:, None] + torch.arange(LONGEST_ANSWER)
    last = first + ends.gather(1, reach).argmax(-1)
    return score, torch.stack([first, last], -1) - passage[:, :1]


def _characters(run: _Run, batch: Batch, spans: Tensor) -> tuple[list[int], list[int]]:
    """Where spans (R, 2) of passage tokens start and end in the texts, in characters; 0 and 0 in a
    window without passage."""
    flat, lengths = run.tokens.take(batch.rows).lists("offsets")
    if not len(flat):
        return [0] * len(lengths), [0] * len(lengths)
    some, first = lengths > 0, np.cumsum(lengths) - lengths
    start, end = (first[:, None] + 2 * spans.numpy() + [0, 1]).T
    return tuple(np.where(some, flat[np.where(some, each, 0)], 0).tolist() for each in (start, end))


def _summaries(run: _Run, batches: Iterator[Batch]) -> dict[int, str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(run.tokenizer / "tokenizer.json"))
    kwargs = _generate_kwargs(run.generation, run.task.longest_target)
    out: dict[int, str] = {}
    for batch in batches:
        inputs = padded(batch.tensors(), run.model.pad_id)
        ids = run.model.backbone.generate(
            input_ids=inputs["input_ids"].to(run.device),
            attention_mask=inputs["attention_mask"].to(run.device),
            **kwargs,
        )
        texts = tokenizer.decode_batch(ids.tolist(), skip_special_tokens=True)
        out.update(zip(batch.examples.tolist(), (t.strip() for t in texts), strict=True))
    return out


def _generate_kwargs(generation: GenerationSection, longest_target: int) -> dict[str, Any]:
    """The settings as ``generate`` of transformers names them; the rest is the model's own."""
    most = generation.max_length
    kwargs = {
        "max_new_tokens": longest_target if most is None else most + 1,  # the one that ends it
        "min_new_tokens": generation.min_length,
        "num_beams": generation.beams,
        "length_penalty": generation.length_penalty,
        "no_repeat_ngram_size": generation.no_repeat_ngram_size,
    }
    return {"do_sample": False} | {k: v for k, v in kwargs.items() if v is not None}


_PREDICT: dict[str, Callable[[_Run, Iterator[Batch]], dict[int, Any]]] = {
    "classification": _classes,
    "regression": _numbers,
    "ranking": _candidates,
    "span": _spans,
    "generation": _summaries,
}
