"""Losses, one value per row, and how they are scaled.

Muppet 3.2, eq. 1: each row's loss is divided by log n(i), n(i) being the number of predictions
the loss works over, so that at uniform predictions every task's loss is exactly 1. n is the
number of classes, of candidates, of positions a span may start at, of words in the vocabulary.
Where the paper is silent: a span loss is the mean of start and end; regression has no n and
stays unscaled (its targets lie in [0, 1]).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from muppet_dag.model.layout import Layout
from muppet_dag.model.spec import Kind

#: Logit of a position that cannot be chosen.
IMPOSSIBLE = torch.finfo(torch.float32).min


def wide(values: Tensor) -> Tensor:
    """At least float32: losses of half precision logits are full precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def of(
    kind: Kind, logits: Tensor, inputs: Mapping[str, Tensor], smoothing: float
) -> tuple[Tensor, Tensor]:
    """Loss of each row and its n, both (R,), for logits as ``MultiTaskModel.logits`` gives them."""
    if kind == "classification":
        return classification(logits, inputs["labels"])
    if kind == "regression":
        return regression(logits, inputs["scores"])
    if kind == "ranking":
        return ranking(logits, inputs["labels"], inputs["sequences"])
    if kind == "span":
        return span(logits, inputs["span"], inputs["passage"])
    layout = Layout.of(inputs["target_lengths"], inputs["target"])
    return generation(logits, layout.pad(inputs["target"], 0), layout.mask, smoothing)


def classification(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy. (R, C), (R,) to (loss (R,), n (R,))."""
    loss = F.cross_entropy(wide(logits), labels, reduction="none")
    return loss, torch.full_like(loss, logits.shape[-1])


def regression(predicted: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Squared error. (R,), (R,) to (loss (R,), n (R,)); n is e, so that the scale is 1."""
    predicted = wide(predicted)
    loss = F.mse_loss(predicted, scores.to(predicted.dtype), reduction="none")
    return loss, torch.full_like(loss, torch.e)


def ranking(logits: Tensor, labels: Tensor, sequences: Tensor) -> tuple[Tensor, Tensor]:
    """Sentence ranking: softmax over the candidates of each row (RoBERTa's criterion).

    ``logits`` (S,) holds the rows' candidates one after the other, ``sequences`` (R,) how many
    each row has. Returns (loss (R,), n (R,)).
    """
    loss = F.cross_entropy(candidate_logits(logits, sequences), labels, reduction="none")
    return loss, sequences.to(loss)


def candidate_logits(logits: Tensor, sequences: Tensor) -> Tensor:
    """(S,) to (R, most candidates); places that a row does not have are impossible."""
    return Layout.of(sequences, logits).pad(wide(logits), IMPOSSIBLE)


def span(logits: Tensor, span: Tensor, passage: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of start and end cross-entropy over the passage and the no-answer position 0.

    ``logits`` (R, L, 2), ``span`` (R, 2), ``passage`` (R, 2) half-open. Gives (loss (R,), n (R,)).
    """
    masked = span_logits(logits, passage)
    start = F.cross_entropy(masked[..., 0], span[:, 0], reduction="none")
    end = F.cross_entropy(masked[..., 1], span[:, 1], reduction="none")
    return (start + end) / 2, (passage[:, 1] - passage[:, 0] + 1).to(start.dtype)


def span_logits(logits: Tensor, passage: Tensor) -> Tensor:
    """(R, L, 2) with every position outside passage and position 0 made impossible."""
    position = torch.arange(logits.shape[1], device=logits.device)
    inside = (position >= passage[:, :1]) & (position < passage[:, 1:])
    allowed = inside | (position == 0)
    return wide(logits).masked_fill(~allowed[..., None], IMPOSSIBLE)


def generation(
    logits: Tensor, target: Tensor, mask: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy, averaged over the tokens of each target.

    ``logits`` (R, T, V), ``target`` and ``mask`` (R, T). Returns (loss (R,), n (R,)).
    """
    each = F.cross_entropy(
        wide(logits).transpose(1, 2), target, reduction="none", label_smoothing=smoothing
    )
    loss = masked_mean(each, mask)
    return loss, torch.full_like(loss, logits.shape[-1])


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real places of each row, (R, T) to (R,)."""
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)


def scale(loss: Tensor, n: Tensor) -> Tensor:
    """loss / log n, row by row. With n of 1 (no room for the passage) the loss is and stays 0."""
    return loss / torch.log(n.clamp(min=2))
