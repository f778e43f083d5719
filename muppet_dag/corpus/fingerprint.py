"""What rows are compared by: normalised texts, word shingles, MinHash sketches and their bands.

All of it works on whole columns. Shingles are hashed words put together, so that no n-gram is
ever a Python object; the sketches come from rensa, which takes such hashes as flat arrays and
works in Rust (datasketch updates a sketch per row in Python, and is hundreds of times slower).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: Words per shingle. One word changed in twenty leaves 0.71 of them.
SHINGLE = 3
#: 32 bands of 4: a pair that shares 0.7 of its shingles is found with 0.9998, one of 0.5 with 0.87.
PERMUTATIONS, BANDS = 128, 32
SEED = 20210111
#: Rows sketched at a time.
SKETCH_ROWS = 8192

_APART = r"[^\p{L}\p{M}\p{N}]+"


@dataclass(frozen=True)
class Rows:
    """Some rows, normalised: lower case, NFKC, words apart by one space.

    ``rest`` is the query and the candidates, ``whole`` all that a model reads.
    """

    text: pa.Array
    query: pa.Array
    rest: pa.Array
    whole: pa.Array

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Rows:
        """Normalise the inputs of a batch in the unified schema; labels are not looked at."""
        choices = pc.binary_join(batch.column("choices"), " ")
        text, query = (normalised(batch.column(name)) for name in ("text", "query"))
        rest = _joined(query, normalised(choices))
        return cls(text, query, rest, _joined(text, rest))


@dataclass(frozen=True)
class Lists:
    """One list of 64-bit hashes per row: row i holds ``values[offsets[i] : offsets[i + 1]]``."""

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Length of each list, shape (rows,)."""
        return np.diff(self.offsets)

    def count(self, flags: np.ndarray) -> np.ndarray:
        """How many of each row's values are flagged; ``flags`` has the shape of ``values``."""
        sums = np.concatenate([[0], np.cumsum(flags)])
        return sums[self.offsets[1:]] - sums[self.offsets[:-1]]

    def take(self, rows: np.ndarray) -> Lists:
        """The lists of some rows, in that order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Lists(self.values[at], offsets)

    def arrow(self) -> pa.LargeListArray:
        """The same as an Arrow column."""
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.values))


def normalised(column: pa.Array) -> pa.Array:
    """Lower case, Unicode NFKC, all that is no letter, mark or digit collapsed into one space.

    Marks around a word (WiC, WSC) are punctuation, so the same sentence with another word marked
    counts as equal.
    """
    column = pc.fill_null(column, "")
    if not pc.all(pc.string_is_ascii(column)).as_py():
        column = pc.utf8_normalize(column, "NFKC")
    column = pc.replace_substring_regex(pc.utf8_lower(column), _APART, " ")
    return pc.utf8_trim(column, " ")


def word_counts(texts: pa.Array) -> np.ndarray:
    """Words of each normalised text, shape (rows,)."""
    spaces = pc.count_substring(texts, " ").to_numpy(zero_copy_only=False)
    return spaces + (pc.binary_length(texts).to_numpy(zero_copy_only=False) > 0)


def words(texts: pa.Array) -> Lists:
    """The words of normalised texts, hashed."""
    from rensa import RMinHash

    split = pc.split_pattern(pc.if_else(pc.equal(texts, ""), None, texts), " ")
    lengths = pc.fill_null(pc.list_value_length(split), 0).to_numpy(zero_copy_only=False)
    coded = split.flatten().dictionary_encode()
    (hashed,) = RMinHash.hash_token_sets([coded.dictionary.to_pylist()]) or [[]]
    table = _mixed(np.array(hashed, np.uint64))
    return Lists(table[coded.indices.to_numpy()], np.concatenate([[0], np.cumsum(lengths)]))


def shingles(row_words: Lists) -> Lists:
    """Runs of ``SHINGLE`` words, hashed; a shorter row has none."""
    values, lengths = row_words.values, row_words.lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    end = max(0, len(values) - SHINGLE + 1)
    hashed = values[:end].copy()
    for ahead in range(1, SHINGLE):
        hashed = _mixed(hashed * np.uint64(0x9E3779B97F4A7C15) + values[ahead : ahead + end])
    inside = row[:end] == row[SHINGLE - 1 :]
    counts = np.maximum(lengths - SHINGLE + 1, 0)
    return Lists(hashed[inside], np.concatenate([[0], np.cumsum(counts)]))


def bands(row_shingles: Lists) -> np.ndarray:
    """Keys of the MinHash bands of each row, shape (rows, BANDS); equal keys make a candidate."""
    from rensa import RMinHash

    out = [np.empty((0, BANDS), np.uint64)]
    for at in range(0, len(row_shingles), SKETCH_ROWS):
        part = row_shingles.take(np.arange(at, min(at + SKETCH_ROWS, len(row_shingles))))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            part.values, part.offsets.astype(np.uint64), PERMUTATIONS, SEED
        )
        sketch = np.array(matrix.to_rows(), np.uint32).reshape(len(part), -1)
        out.append(_bands(sketch.astype(np.uint64)))
    return np.concatenate(out)


def _bands(sketch: np.ndarray) -> np.ndarray:
    parts = sketch.reshape(len(sketch), BANDS, -1)
    key = np.broadcast_to(np.arange(1, BANDS + 1, dtype=np.uint64), parts.shape[:2])
    for column in range(parts.shape[2]):
        key = _mixed(key * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, column])
    return key


def _mixed(x: np.ndarray) -> np.ndarray:
    """splitmix64's finalizer: every bit of the input reaches every bit of the output."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _joined(first: pa.Array, second: pa.Array) -> pa.Array:
    return pc.utf8_trim(pc.binary_join_element_wise(first, second, " "), " ")
