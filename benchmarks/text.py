"""Made-up text whose words are as long and as frequent as those of a language."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LETTERS = np.frombuffer(b"etaoinshrdlucmwfgypbvk", np.uint8)


def vocabulary(draw: np.random.Generator, size: int) -> pa.Array:
    """Words of 2 to 12 letters."""
    letters = draw.choice(_LETTERS, (size, 12))
    lengths = np.clip(draw.poisson(4.5, size), 2, 12)
    return pa.array([bytes(w[:n]).decode() for w, n in zip(letters, lengths, strict=True)])


def texts(draw: np.random.Generator, words: pa.Array, lengths: np.ndarray) -> pa.Array:
    """One text for each of ``lengths`` (in words, together below 2^31); words follow Zipf's law."""
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ranks = (len(words) ** draw.random(ends[-1])).astype(np.int32) - 1  # Zipf: 1 / rank
    rows = pa.ListArray.from_arrays(pa.array(ends), words.take(pa.array(ranks)))
    return pc.binary_join(rows, " ")
