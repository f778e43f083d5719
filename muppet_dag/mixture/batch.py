"""Token rows become padded arrays: what one slot hands to the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Batch:
    """Rows of one task as padded NumPy arrays.

    With R rows, S sequences (S = R but for multiple choice), width L and target width T:
    ``input_ids``, ``attention_mask``, ``token_type_ids`` are (S, L); ``sequences`` (R,) says how
    many sequences each row has; ``labels`` (R,) int64; ``scores`` (R,) float32; ``span`` (R, 2)
    start and end position; ``passage`` (R, 2) half-open range; ``target`` and ``target_mask``
    (R, T); ``rows`` and ``examples`` (R,) say where each row comes from.
    """

    task: str
    rows: np.ndarray
    examples: np.ndarray
    sequences: np.ndarray
    input_ids: np.ndarray
    attention_mask: np.ndarray
    token_type_ids: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    span: np.ndarray
    passage: np.ndarray
    target: np.ndarray
    target_mask: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens that are not padding."""
        return int(self.attention_mask.sum()) + int(self.target_mask.sum())

    @property
    def padded_tokens(self) -> int:
        """Tokens including padding: what the model computes over."""
        return self.input_ids.size + self.target.size


class Tokens:
    """One split of a token artefact, memory-mapped; rows are read by number in any order."""

    def __init__(self, folder: Path, split: str) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(Path(folder) / f"{split}.arrow")))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        sizes = [batch.num_rows for batch in self._batches]
        self._ends = np.cumsum(sizes) if sizes else np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, rows: Sequence[int] | np.ndarray) -> pa.RecordBatch:
        """The given rows in the given order, as one record batch."""
        rows = np.asarray(rows)
        chunk = np.searchsorted(self._ends, rows, side="right")
        first = self._ends - [batch.num_rows for batch in self._batches]
        if (chunk == chunk[0]).all():
            return self._batches[chunk[0]].take(pa.array(rows - first[chunk[0]]))
        parts = [
            self._batches[c].take(pa.array([r - first[c]]))
            for c, r in zip(chunk, rows, strict=True)
        ]
        return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]

    def column(self, name: str) -> np.ndarray:
        """A whole flat column."""
        parts = [b.column(name).to_numpy(zero_copy_only=False) for b in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def collate(task: str, tokens: Tokens, rows: Sequence[int] | np.ndarray, pad_id: int) -> Batch:
    """Read rows and pad them to the longest of them."""
    table = tokens.take(rows)
    lengths = table.column("lengths")
    length = lengths.flatten().to_numpy().astype(np.int64)
    ids, mask = _padded(table.column("input_ids").flatten().to_numpy(), length, pad_id)
    second = table.column("second").flatten().to_numpy().astype(np.int64)
    target_length = table.column("target_length").to_numpy().astype(np.int64)
    target, target_mask = _padded(
        table.column("target").flatten().to_numpy(zero_copy_only=False), target_length, pad_id
    )
    return Batch(
        task=task,
        rows=np.asarray(rows),
        examples=table.column("example").to_numpy(),
        sequences=lengths.value_lengths().to_numpy().astype(np.int64),
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=(np.arange(ids.shape[1]) >= second[:, None]) * mask,
        labels=_numbers(table, "label", np.int64, -1),
        scores=_numbers(table, "score", np.float32, np.nan),
        span=np.stack([_numbers(table, name, np.int64, 0) for name in ("start", "end")], 1),
        passage=_pairs(table.column("passage")),
        target=target,
        target_mask=target_mask,
    )  # fmt: skip


def _padded(flat: np.ndarray, length: np.ndarray, pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat values and row lengths to (values, mask), both (rows, longest) int64."""
    mask = np.arange(length.max(initial=0)) < length[:, None]
    out = np.full(mask.shape, pad, np.int64)
    out[mask] = flat
    return out, mask.astype(np.int64)


def _numbers(table: pa.RecordBatch, name: str, dtype: type, missing: float) -> np.ndarray:
    column = table.column(name)
    return column.fill_null(missing).to_numpy(zero_copy_only=False).astype(dtype)


def _pairs(column: pa.FixedSizeListArray) -> np.ndarray:
    if column.null_count:
        return np.zeros((len(column), 2), np.int64)
    return column.flatten().to_numpy().astype(np.int64).reshape(-1, 2)
