"""Heads: what turns the encoder's states into predictions.

One head per classification task, one shared by all commonsense tasks, one shared by all reading
tasks; separate heads there overfitted badly (Muppet 3.1). Summarization adds no parameters: the
encoder-decoder's own output layer serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from muppet_dag.model.spec import HeadSpec


class Heads(nn.Module):
    """Heads by name, whatever the name is.

    ``nn.ModuleDict`` refuses what is an attribute of its own, and tasks are called ``type`` or
    ``train``. A head here is found by its key alone, never as an attribute; weights are named as
    those of an ``nn.ModuleDict``.
    """

    def __init__(self, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self._modules.update(heads)

    #: ``heads.training = True``, as ``train`` does, is no word on a head called "training".
    __setattr__ = object.__setattr__

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __getitem__(self, name: str) -> nn.Module:
        return self._modules[name]

    def __setitem__(self, name: str, head: nn.Module) -> None:
        self._modules[name] = head


class SentenceHead(nn.Module):
    """Dense, tanh, dropout, projection over one state per sequence (as RoBERTa's)."""

    def __init__(self, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden, outputs)

    def forward(self, sentence: Tensor) -> Tensor:
        """(S, hidden) to (S, outputs)."""
        dense = torch.tanh(self.dense(self.dropout(sentence)))
        return self.projection(self.dropout(dense))


class SpanHead(nn.Module):
    """Two logits per token: start and end of the answer (Seo et al. 2016)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, 2)

    def forward(self, states: Tensor) -> Tensor:
        """(T, hidden) to (T, 2)."""
        return self.projection(states)


def make_head(spec: HeadSpec, hidden: int, dropout: float, generator: torch.Generator) -> nn.Module:
    """A fresh head; weights N(0, 0.02) from the generator, biases zero."""
    outputs = {"classification": spec.classes, "regression": 1, "ranking": 1}
    if spec.kind == "span":
        head: nn.Module = SpanHead(hidden)
    else:
        head = SentenceHead(hidden, outputs[spec.kind], dropout)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0.0, 0.02, generator=generator)
    return head
