"""Token rows become a batch: what one slot hands to the model, one after the other, no padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np

from muppet_dag.mixture.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

#: What of a batch a model reads.
INPUTS = (
    "input_ids", "lengths", "second", "sequences", "labels", "scores", "span", "passage",
    "target", "target_lengths",
)  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Rows of one task as NumPy arrays: int64 but for ``scores``, and without padding.

    With R rows that have S sequences (S = R but for multiple choice) of T tokens in all:
    ``rows`` and ``examples`` (R,) say where each row comes from; ``sequences`` (R,) how many each
    has; ``input_ids`` (T,) are all sequences one after the other, ``lengths`` (S,) their lengths
    and ``second`` (S,) where the second segment of each starts, its length if there is none;
    ``labels`` (R,), -1 for none; ``scores`` (R,) float32, NaN for none; ``span`` (R, 2) start and
    end position; ``passage`` (R, 2) half-open range; ``target`` (U,) are all targets one after the
    other, ``target_lengths`` (R,) their lengths. ``pinned`` are the tensors if made ahead.
    """

    task: str
    rows: np.ndarray
    examples: np.ndarray
    sequences: np.ndarray
    input_ids: np.ndarray
    lengths: np.ndarray
    second: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    span: np.ndarray
    passage: np.ndarray
    target: np.ndarray
    target_lengths: np.ndarray
    pinned: dict[str, Tensor] | None = field(default=None, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences and targets: T + U."""
        return len(self.input_ids) + len(self.target)

    @property
    def padded_tokens(self) -> int:
        """Tokens if each sequence, and each target, were as long as the longest of the batch."""
        wide, long = self.lengths.max(initial=0), self.target_lengths.max(initial=0)
        return int(len(self.lengths) * wide + len(self.rows) * long)

    def tensors(self, pin: bool = False) -> dict[str, Tensor]:
        """The model's flat inputs by name (see ``INPUTS``).

        They share the arrays' memory; with ``pin``, or where that was done ahead, they are copies
        in pinned memory, from which a GPU copies while the host goes on.
        """
        if self.pinned is not None:
            return self.pinned
        import torch

        tensors = {name: torch.from_numpy(getattr(self, name)) for name in INPUTS}
        return {name: tensor.pin_memory() for name, tensor in tensors.items()} if pin else tensors

    def split(self, rows: Sequence[int]) -> list[Batch]:
        """The batch in parts of so many rows each; their arrays share this one's memory."""
        row = _bounds(rows)
        sequence = _bounds(self.sequences)[row]
        bounds = dict.fromkeys(_ARRAYS, row)
        bounds["lengths"] = bounds["second"] = sequence
        bounds["input_ids"] = _bounds(self.lengths)[sequence]
        bounds["target"] = _bounds(self.target_lengths)[row]
        arrays = [(getattr(self, name), at.tolist()) for name, at in bounds.items()]
        return [
            Batch(self.task, *(array[at[i] : at[i + 1]] for array, at in arrays))
            for i in range(len(rows))
        ]


_ARRAYS = tuple(each.name for each in fields(Batch) if each.name not in ("task", "pinned"))


def _bounds(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where parts of these sizes begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def collate(task: str, tokens: Tokens, rows: Sequence[int] | np.ndarray) -> Batch:
    """Read rows of a task's tokens. MuppetError if there is no such row."""
    rows = np.asarray(rows, np.int64)
    taken = tokens.take(rows)
    input_ids, _ = taken.lists("input_ids")
    lengths, sequences = taken.lists("lengths")
    target, target_lengths = taken.lists("target")
    return Batch(
        task=task,
        rows=rows,
        examples=taken.numbers("example"),
        sequences=sequences,
        input_ids=input_ids,
        lengths=lengths,
        second=taken.lists("second")[0],
        labels=taken.numbers("label", -1),
        scores=taken.numbers("score", np.nan),
        span=np.stack([taken.numbers("start"), taken.numbers("end")], 1),
        passage=taken.numbers("passage"),
        target=target,
        target_lengths=target_lengths,
    )
