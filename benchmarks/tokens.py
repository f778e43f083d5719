"""Made-up token files: single texts, questions with candidates, windows over passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

VOCABULARY, BATCH_ROWS, SHORTEST, LONGEST = 50_265, 4096, 4, 512
#: Kinds of tasks: how many there are, sequences of a row, their median length in tokens, and
#: whether rows have a span in place of a label.
KINDS = {"text": (8, 1, 50, False), "choice": (1, 4, 28, False), "passage": (1, 1, 220, True)}


def write_tasks(draw: np.random.Generator, folder: Path, rows: int) -> int:
    """Write the training tokens of all tasks, ``rows`` in all; returns how many tasks there are."""
    from muppet_dag.corpus.tokenize import schema

    kinds = [(f"{kind}_{i}", rest) for kind, (many, *rest) in KINDS.items() for i in range(many)]
    file_schema = schema(pa.uint16())
    for name, (sequences, length, reads) in kinds:
        (folder / name).mkdir(parents=True)
        with pa.ipc.new_file(str(folder / name / "train.arrow"), file_schema) as writer:
            for at in range(0, rows // len(kinds), BATCH_ROWS):
                count = min(BATCH_ROWS, rows // len(kinds) - at)
                lengths = draw.lognormal(np.log(length), 0.6, count * sequences)
                columns = common(draw, lengths.clip(SHORTEST, LONGEST), VOCABULARY, sequences)
                columns |= (
                    _span(columns["tokens"]) if reads else {"label": np.zeros(count, np.int32)}
                )
                writer.write_batch(filled(file_schema, columns))
    return len(kinds)


def filled(schema: pa.Schema, columns: dict[str, Any]) -> pa.RecordBatch:
    """A record batch of some columns; the others are null."""
    count = len(columns["example"])
    arrays = [columns.get(field.name, pa.nulls(count, field.type)) for field in schema]
    return pa.record_batch(list(map(pa.array, arrays)), schema=schema)


def common(
    draw: np.random.Generator, lengths: np.ndarray, vocabulary: int, sequences: int = 1
) -> dict[str, Any]:
    """What all kinds of tasks have: random tokens in sequences of these lengths, so many a row."""
    lengths = lengths.astype(np.uint16)
    each = lengths.reshape(-1, sequences)
    rows, tokens = len(each), each.sum(1, dtype=np.int32)
    flat = draw.integers(5, vocabulary, tokens.sum()).astype(np.uint16)
    parts = pa.ListArray.from_arrays(np.arange(0, len(lengths) + 1, sequences, np.int32), lengths)
    return {
        "example": np.arange(rows, dtype=np.int32),
        "input_ids": pa.ListArray.from_arrays(_ends(tokens), flat),
        "lengths": parts, "second": parts,
        "width": each.max(1), "sequences": np.full(rows, sequences, np.uint16),
        "target_length": np.zeros(rows, np.uint16), "tokens": tokens,
    }  # fmt: skip


def _span(tokens: np.ndarray) -> dict[str, Any]:
    """An answer of one token in the middle of a passage behind a question of three."""
    passage = np.stack([np.full(len(tokens), 3), tokens], 1).astype(np.uint16).ravel()
    offsets = pa.ListArray.from_arrays(_ends(2 * tokens), np.zeros(2 * tokens.sum(), np.int32))
    pairs = pa.FixedSizeListArray.from_arrays(passage, 2)
    return {"start": tokens // 2, "end": tokens // 2, "passage": pairs, "offsets": offsets}


def _ends(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
