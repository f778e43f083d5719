"""What slots are cut by: the size of every token row, and which rows are in the pool."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

#: A random number's low bits give way to the number of what it is drawn for (an int32 row).
_LOW = np.uint64(2**31 - 1)


@dataclass(frozen=True)
class Sizes:
    """Sizes of the token rows of a task's pool, shape (rows,) each.

    ``width`` is the longest sequence, ``sequences`` how many there are (candidates of a question),
    ``target`` the length of a summary, 0 elsewhere (uint16); ``tokens`` counts all that is not
    padding (int32). ``rows`` (int32) are their numbers in the token file, needed where the pool
    does not hold all of them in order.
    """

    width: np.ndarray
    sequences: np.ndarray
    target: np.ndarray
    tokens: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.width)

    def pool(self, unit: Literal["rows", "tokens"]) -> int:
        """How many rows or tokens an epoch holds."""
        return len(self) if unit == "rows" else int(self.tokens.sum(dtype=np.int64))

    def take(self, chosen: np.ndarray) -> Sizes:
        """A smaller pool: only the chosen of these rows."""
        rows = chosen.astype(np.int32) if self.rows is None else self.rows[chosen]
        sizes = (self.width, self.sequences, self.target, self.tokens)
        return Sizes(*(size[chosen] for size in sizes), rows)

    def capped(self, cap: int | None, *key: object) -> Sizes:
        """At most ``cap`` rows, chosen by ``key``; a larger cap holds those as well."""
        if cap is None or cap >= len(self):
            return self
        return self.take(np.sort(shuffled(len(self), *key, "cap")[:cap]))

    @classmethod
    def read(
        cls, tokens: Path, split: str = "train", *, without: np.ndarray | None = None
    ) -> Sizes:
        """Read the size columns of a token file; its ids are not touched.

        ``without`` holds numbers of shard rows; every token row (window) of theirs is kept out.
        """
        reader = pa.ipc.open_file(pa.memory_map(str(Path(tokens) / f"{split}.arrow")))
        table = reader.read_all()
        names = ("width", "sequences", "target_length", "tokens")
        sizes = cls(*(table.column(name).to_numpy() for name in names))
        if without is None or not len(without):
            return sizes
        return sizes.take(np.flatnonzero(~np.isin(table.column("example").to_numpy(), without)))


def shuffled(count: int, *key: object) -> np.ndarray:
    """The numbers below ``count`` in a random order that ``key`` alone decides, int32.

    They are sorted by random bits. Those are the raw ones of a counter-based generator, since NumPy
    promises that these stay as they are, and not that its ``permutation`` does (NEP 19).
    """
    seed = hashlib.sha256("/".join(map(str, key)).encode()).digest()[:16]
    drawn = np.random.Philox(key=int.from_bytes(seed, "big")).random_raw(count)
    drawn &= ~_LOW
    drawn |= np.arange(count, dtype=np.uint64)
    drawn.sort()
    drawn &= _LOW
    return drawn.astype(np.int32)
