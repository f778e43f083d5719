"""Near-duplicates between training rows and evaluation rows, by MinHash and banding.

Evaluation rows are few: all are sketched. A training row is sketched only if half of its
shingles occur on the evaluation side at all, which one bit table answers; most rows end there.
Candidates, rows with a band in common, are compared by their shingles themselves, so what is
reported is the true similarity and never an estimate. Every floor is linear in the training rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from muppet_dag.corpus import fingerprint
from muppet_dag.corpus.exact import Side
from muppet_dag.corpus.fingerprint import BANDS, Lists, Rows

if TYPE_CHECKING:
    import duckdb

#: Rows of fewer words are compared as wholes only: any two such rows are nearly alike.
FEWEST_WORDS = 8
#: Least Jaccard similarity of the rows' shingles, and of the words of query and candidates.
SIMILARITY = 0.7
#: Least share of a training row's shingles that any evaluation row holds. |A ∩ B| is at least
#: SIMILARITY |A|; a word that is repeated may weigh less in the set than in the row.
KNOWN = 0.5
#: Evaluation rows looked at per band and split, and candidates per training row and split: the
#: most alike only, so that templates (HANS) cannot make the cost quadratic.
PER_BAND, PER_ROW = 4, 3
#: Pairs compared at a time.
PAIRS = 4096


class Near:
    """The evaluation side's shingles and both sides' bands, in a database that may spill."""

    def __init__(self, con: duckdb.DuckDBPyConnection, evaluation_bytes: int) -> None:
        self.con = con
        # A shingle a word, a word in about six bytes: some 6 % of the bits get set.
        bits = min(32, max(20, int(np.ceil(np.log2(3 * evaluation_bytes + 1)))))
        self.mask = np.uint64((1 << bits) - 1)
        self.known = np.zeros(1 << (bits - 3), np.uint8)
        for side in ("evaluation", "train"):
            con.execute(f"CREATE TABLE {side}_bands (key UBIGINT, part SMALLINT, row INTEGER)")

    def add(self, side: Side, rows: Rows, part: int, first: int) -> None:
        """Take in rows of one split, all evaluation splits before the first training split;
        ``first`` is the row number of the first of them."""
        row_words = fingerprint.words(rows.whole)
        shingles = fingerprint.shingles(row_words)
        chosen = row_words.lengths >= FEWEST_WORDS
        place = shingles.values & self.mask
        byte, bit = place >> np.uint64(3), (place & np.uint64(7)).astype(np.uint8)
        if side == "evaluation":
            np.bitwise_or.at(self.known, byte, np.uint8(1) << bit)
        else:
            known = (self.known[byte] >> bit) & 1
            chosen &= shingles.count(known) >= KNOWN * shingles.lengths
        self._sketch(side, shingles, chosen, part, first)

    def _sketch(
        self, side: Side, shingles: Lists, chosen: np.ndarray, part: int, first: int
    ) -> None:
        rows = np.flatnonzero(chosen)
        keys = fingerprint.bands(shingles.take(rows)).ravel()
        numbers = np.repeat(rows + first, BANDS)
        new_bands = pa.table({"key": keys, "row": numbers})  # noqa: F841  (DuckDB finds it by its name)
        self.con.execute(f"INSERT INTO {side}_bands SELECT key, {part}, row FROM new_bands")

    def find(self, read: Callable[[int, np.ndarray], Rows]) -> None:
        """Fill table ``near`` (train_part, train_row, part, row, similarity), with table ``exact``
        left out. ``read(part, rows)`` gives rows by number; the numbers ascend."""
        con = self.con
        con.execute(
            f"""CREATE TABLE candidates AS
            WITH few AS (SELECT key, part, unnest(min(row, {PER_BAND})) AS row
                         FROM evaluation_bands GROUP BY key, part),
            pairs AS (SELECT t.part AS train_part, t.row AS train_row, few.part, few.row,
                             count(*) AS shared
                      FROM train_bands t JOIN few USING (key) GROUP BY ALL)
            SELECT * FROM pairs ANTI JOIN (FROM exact WHERE kind = 'row') USING
                (train_part, train_row, part)
            QUALIFY row_number() OVER (PARTITION BY train_part, train_row, part
                                       ORDER BY shared DESC, row) <= {PER_ROW}"""
        )
        con.execute("DROP TABLE train_bands; DROP TABLE evaluation_bands")
        con.execute(
            "CREATE TABLE near (train_part SMALLINT, train_row INTEGER, part SMALLINT, "
            "row INTEGER, similarity FLOAT)"
        )
        # A cursor of its own: the loop below runs other queries in between.
        ordered = con.cursor().sql(
            "SELECT train_part, train_row, part, row FROM candidates ORDER BY ALL"
        )
        for pairs in ordered.to_arrow_reader(PAIRS):
            self._compare(pairs, read)

    def _compare(self, pairs: pa.RecordBatch, read: Callable[[int, np.ndarray], Rows]) -> None:
        train_part, train_row, part, row = (column.to_numpy() for column in pairs.columns)
        left = _Sets.read(train_part, train_row, read)
        right = _Sets.read(part, row, read)
        alike = partial(jaccard, self.con)
        similarity = alike(left.whole, right.whole)
        # A long passage in common outweighs any question, so the rest is compared for itself; or
        # crosswise, for the same pair of sentences the other way round.
        rest = np.maximum(alike(left.rest, right.rest), alike(left.rest, right.text))
        # As prose in common outweighs any formula: another number makes another problem.
        figures = alike(left.figures, right.figures)
        is_near = np.minimum(np.minimum(similarity, rest), figures) >= SIMILARITY
        near_pairs = pa.Table.from_batches([pairs]).append_column(
            "similarity", pa.array(similarity)
        )
        near_pairs = near_pairs.filter(pa.array(is_near))
        self.con.execute("INSERT INTO near SELECT * FROM near_pairs")


class _Sets:
    """What pairs are compared by, aligned with the pairs."""

    def __init__(self, rows: Rows, order: np.ndarray) -> None:
        self.whole = fingerprint.shingles(fingerprint.words(rows.whole)).take(order)
        self.rest = fingerprint.words(rows.rest).take(order)
        self.text = fingerprint.words(rows.text).take(order)
        self.figures = fingerprint.figures(rows.whole).take(order)

    @classmethod
    def read(
        cls, part: np.ndarray, row: np.ndarray, read: Callable[[int, np.ndarray], Rows]
    ) -> _Sets:
        key = (part.astype(np.int64) << 32) + row
        unique, order = np.unique(key, return_inverse=True)
        parts = unique >> 32
        blocks = [read(int(p), unique[parts == p] & 0xFFFFFFFF) for p in np.unique(parts)]
        columns = (
            pa.concat_arrays([getattr(rows, name) for rows in blocks])
            for name in ("text", "query", "rest", "whole")
        )
        return cls(Rows(*columns), order)


def jaccard(con: duckdb.DuckDBPyConnection, left: Lists, right: Lists) -> np.ndarray:
    """Jaccard similarity of each pair of lists as sets, shape (pairs,); of two empty ones 1."""
    pairs = pa.table({"a": left.arrow(), "b": right.arrow()})  # noqa: F841  (found by its name)
    both, one, other = con.execute(
        "SELECT len(list_intersect(a, b)) AS both, len(list_distinct(a)) AS one, "
        "len(list_distinct(b)) AS other FROM pairs"
    ).fetchnumpy().values()  # fmt: skip
    union = one + other - both
    return np.where(union == 0, 1.0, both / np.maximum(union, 1))
