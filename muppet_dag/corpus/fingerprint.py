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

#: Letters of scripts that put no blanks between words: each counts as a word.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_SIGN = r"[^\p{L}\p{M}\p{N}\s]"
#: White space other than the space itself.
_BLANK = r"\t-\r\x1c-\x1f\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\p{Zl}\p{Zp}\x{202f}\x{205f}\x{3000}"
_BLANKS = rf"[ {_BLANK}]{{2,}}|[{_BLANK}]"
#: Other styles of the same sign.
_QUOTES = {"``": '"', "''": '"', "`": "'"}
_STYLES = {"[‘’‚‛]": "'", "[“”„‟«»]": '"', "[‐‑‒–—―]": "-"}
#: Tokens that are figures, signs that are figures beside one, and those that are between two.
_FIGURE, _BESIDE, _BETWEEN = r"[\p{N}\p{S}#%&@]", r"^[-*/\\_(){}\[\]]$", r"^[.,:]$"


@dataclass(frozen=True)
class Rows:
    """Some rows, normalised. ``whole`` is all that a model reads, with every sign.

    ``text``, ``query`` and ``rest`` (the query and the candidates) are without punctuation.
    """

    text: pa.Array
    query: pa.Array
    rest: pa.Array
    whole: pa.Array

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Rows:
        """Normalise the inputs of a batch in the unified schema; labels are not looked at."""
        choices = pc.binary_join(batch.column("choices"), " ")
        fields = [normalised(each) for each in (batch["text"], batch["query"], choices)]
        text, query, candidates = map(unpunctuated, fields)
        return cls(text, query, _joined(query, candidates), _joined(*fields))


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

    def keep(self, flags: np.ndarray) -> Lists:
        """The flagged values only."""
        return Lists(self.values[flags], np.concatenate([[0], np.cumsum(self.count(flags))]))

    def beside(self, other: Lists) -> Lists:
        """Each row's values, and then those of the other."""
        offsets = self.offsets + other.offsets
        values = np.empty(offsets[-1], self.values.dtype)
        for each, start in ((self, other.offsets[:-1]), (other, self.offsets[1:])):
            values[np.arange(len(each.values)) + np.repeat(start, each.lengths)] = each.values
        return Lists(values, offsets)

    def arrow(self) -> pa.LargeListArray:
        """The same as an Arrow column."""
        return pa.LargeListArray.from_arrays(pa.array(self.offsets), pa.array(self.values))


def normalised(column: pa.Array) -> pa.Array:
    """Texts as words and signs, all apart by one space: lower case, NFC, quotes and dashes of one
    style. White space counts between two words only; every letter, digit and sign counts.

    NFKC would not do: for it ``x²`` is ``x2``.
    """
    column = pc.fill_null(column, "")
    alone = f"({_SIGN})"
    if not pc.all(pc.string_is_ascii(column)).as_py():
        column = pc.utf8_normalize(column, "NFC")
        for style, sign in _STYLES.items():
            column = pc.replace_substring_regex(column, style, sign)
        alone = f"({_SIGN}|[{_UNSPACED}])"
    for style, sign in _QUOTES.items():
        column = pc.replace_substring(column, style, sign)
    column = pc.replace_substring_regex(pc.utf8_lower(column), alone, r" \1 ")
    return pc.utf8_trim(pc.replace_substring_regex(column, _BLANKS, " "), " ")


def unpunctuated(texts: pa.Array) -> pa.Array:
    """Normalised texts without punctuation: words and symbols."""
    return pc.utf8_trim(pc.replace_substring_regex(texts, r"\p{P}(?: |$)", ""), " ")


def word_counts(texts: pa.Array) -> np.ndarray:
    """Words of each normalised text, shape (rows,)."""
    spaces = pc.count_substring(texts, " ").to_numpy(zero_copy_only=False)
    return spaces + (pc.binary_length(texts).to_numpy(zero_copy_only=False) > 0)


def words(texts: pa.Array) -> Lists:
    """The words and symbols of normalised texts, without punctuation, hashed."""
    tokens, kinds = _tokens(texts)
    return tokens.keep(~kinds.has(r"^\p{P}$"))


def figures(texts: pa.Array) -> Lists:
    """What tells two problems of the same wording apart: numbers and symbols, with the signs
    beside and between them, each of them and each two in a row, hashed."""
    tokens, kinds = _tokens(texts)
    core = kinds.has(_FIGURE)
    left, right = np.append(False, core[:-1]), np.append(core[1:], False)
    beside, between = kinds.has(_BESIDE), kinds.has(_BETWEEN)
    single = tokens.keep(core | beside & (left | right) | between & left & right)
    return single.beside(shingles(single, 2))


@dataclass(frozen=True)
class _Kinds:
    """Tokens by their place in a dictionary, so that a pattern looks at each only once."""

    dictionary: pa.Array
    indices: np.ndarray

    def has(self, pattern: str) -> np.ndarray:
        """Which tokens match, shape (tokens,)."""
        matches = pc.match_substring_regex(self.dictionary, pattern)
        return matches.to_numpy(zero_copy_only=False)[self.indices]


def _tokens(texts: pa.Array) -> tuple[Lists, _Kinds]:
    """Words and signs of normalised texts, hashed, and what they are."""
    from rensa import RMinHash

    split = pc.split_pattern(pc.if_else(pc.equal(texts, ""), None, texts), " ")
    lengths = pc.fill_null(pc.list_value_length(split), 0).to_numpy(zero_copy_only=False)
    coded = split.flatten().dictionary_encode()
    (hashed,) = RMinHash.hash_token_sets([coded.dictionary.to_pylist()]) or [[]]
    indices = coded.indices.to_numpy()
    values = _mixed(np.array(hashed, np.uint64))[indices]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Lists(values, offsets), _Kinds(coded.dictionary, indices)


def shingles(row_words: Lists, size: int = SHINGLE) -> Lists:
    """Runs of ``size`` words, hashed; a shorter row has none."""
    values, lengths = row_words.values, row_words.lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    end = max(0, len(values) - size + 1)
    hashed = values[:end].copy()
    for ahead in range(1, size):
        hashed = _mixed(hashed * np.uint64(0x9E3779B97F4A7C15) + values[ahead : ahead + end])
    inside = row[:end] == row[size - 1 :]
    counts = np.maximum(lengths - size + 1, 0)
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


def _joined(*fields: pa.Array) -> pa.Array:
    joined = fields[0]
    for field in fields[1:]:
        joined = pc.utf8_trim(pc.binary_join_element_wise(joined, field, " "), " ")
    return joined
