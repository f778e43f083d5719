"""R3F: predictions should hardly change when the words are disturbed a little.

Aghajanyan et al. 2020, eq. 3-4: L(f, g, theta) + lambda KL_S(g.f(x) || g.f(x + z)), where z is
N(0, epsilon^2) or U(-epsilon, epsilon) on the word embeddings and KL_S(X, Y) = KL(X||Y) + KL(Y||X).

The formula as it stands: both predictions get gradients, and each row's term is that of one
distribution (start and end of a span, and the words of a target, are averaged), so that lambda
means the same in every task. fairseq differs: its sentence criterion detaches the clean word
embeddings under the noise, and its sequence criterion sums over target words, so that lambda grows
with their number. Regression has no distribution, hence no term.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from muppet_dag.model import losses
from muppet_dag.model.layout import Layout
from muppet_dag.model.spec import Kind
from muppet_dag.recipes import TrainingSection


def applies(kind: Kind, training: TrainingSection) -> bool:
    """Whether a head of this kind has the term, and needs the second pass, in training."""
    return training.regularizer != "none" and training.r3f_lambda > 0 and kind != "regression"


def noise(like: Tensor, training: TrainingSection) -> Tensor:
    """z: fresh noise of the size, type and device of ``like``."""
    epsilon = training.r3f_epsilon
    if training.r3f_noise == "normal":
        return torch.empty_like(like).normal_(0.0, epsilon)
    return torch.empty_like(like).uniform_(-epsilon, epsilon)


def difference(
    kind: Kind, clean: Tensor, noised: Tensor, inputs: Mapping[str, Tensor]
) -> Tensor:  # fmt: skip
    """KL_S of each row, (R,), between two predictions as ``MultiTaskModel.logits`` gives them."""
    if kind == "ranking":
        clean, noised = (losses.candidate_logits(x, inputs["sequences"]) for x in (clean, noised))
    if kind == "span":
        clean, noised = (losses.span_logits(x, inputs["passage"]).mT for x in (clean, noised))
        return symmetric_kl(clean, noised).mean(1)
    if kind == "generation":
        mask = Layout.of(inputs["target_lengths"], inputs["target"]).mask
        return losses.masked_mean(symmetric_kl(clean, noised), mask)
    return symmetric_kl(clean, noised)


def symmetric_kl(clean: Tensor, noised: Tensor) -> Tensor:
    """KL(X||Y) + KL(Y||X) = sum (X - Y)(log X - log Y) over the last dimension of two logits.

    Logits that are impossible in both add exactly 0. At least float32.
    """
    x, y = (losses.wide(logits).log_softmax(-1) for logits in (clean, noised))
    return ((x.exp() - y.exp()) * (x - y)).sum(-1)
