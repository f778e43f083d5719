"""Equal rows, questions and passages between training and evaluation: hash joins in DuckDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from muppet_dag.corpus import fingerprint
from muppet_dag.corpus.fingerprint import Rows

if TYPE_CHECKING:
    import duckdb

Side = Literal["train", "evaluation"]

#: Fewest words of a text that is worth telling (13, as in GPT-3's contamination study), of a
#: query, and how many texts of one split a question may be asked of before it proves nothing.
LONG_TEXT, SHORTEST_QUERY, COMMON_QUERY = 13, 4, 3
#: What a key is of; a row meets only a row, a query meets a query or a text.
_ROW, _TEXT, _QUERY = range(3)


class Exact:
    """Keys of both sides, 64-bit hashes of normalised texts, in a database that may spill.

    Among 5 million rows against 300,000 a false match has a chance of one in ten million.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.con = con
        for side in ("evaluation", "train"):
            con.execute(
                f"CREATE TABLE {side}_keys (key UBIGINT, role TINYINT, long BOOLEAN, "
                "other UBIGINT, part SMALLINT, row INTEGER)"
            )

    def add(self, side: Side, rows: Rows, part: int, first: int) -> None:
        """Take in rows of one split; ``first`` is the row number of the first of them."""
        new_keys = pa.table(  # noqa: F841  (DuckDB finds it by its name)
            {
                "row": np.arange(first, first + len(rows.whole), dtype=np.int32),
                "whole": rows.whole, "text": rows.text, "query": rows.query,
                "text_words": fingerprint.word_counts(rows.text),
                "query_words": fingerprint.word_counts(rows.query),
            }
        )  # fmt: skip
        self.con.execute(
            f"""INSERT INTO {side}_keys
            SELECT hash(whole), {_ROW}, false, 0, {part}, row FROM new_keys WHERE whole <> ''
            UNION ALL SELECT hash(text), {_TEXT}, text_words >= {LONG_TEXT}, 0, {part}, row
            FROM new_keys WHERE text_words >= {SHORTEST_QUERY}
            UNION ALL SELECT hash(query), {_QUERY}, false, hash(text), {part}, row
            FROM new_keys WHERE query_words >= {SHORTEST_QUERY}"""
        )

    def find(self) -> None:
        """Fill table ``exact`` (train_part, train_row, part, row, kind).

        An evaluation split answers with one row a key, so that a text that occurs often on both
        sides does not give the product.
        """
        self.con.execute(
            f"""CREATE TABLE exact AS
            WITH few AS (SELECT key, role, part, min(row) AS row FROM evaluation_keys
                         GROUP BY key, role, part),
            common AS (SELECT key FROM (FROM evaluation_keys UNION ALL FROM train_keys)
                       WHERE role = {_QUERY} AND key IN (SELECT key FROM few)
                       GROUP BY key, part HAVING count(DISTINCT other) > {COMMON_QUERY})
            SELECT t.part AS train_part, t.row AS train_row, few.part, few.row,
                   CASE WHEN t.role = {_ROW} THEN 'row'
                        WHEN t.role = {_TEXT} AND few.role = {_TEXT} THEN 'text'
                        ELSE 'query' END AS kind
            FROM train_keys t JOIN few USING (key)
            WHERE (t.role = {_ROW}) = (few.role = {_ROW})
              AND (t.role <> {_TEXT} OR few.role <> {_TEXT} OR t.long)
              AND (t.role <> {_QUERY} AND few.role <> {_QUERY}
                   OR key NOT IN (SELECT key FROM common))"""
        )
        self.con.execute("DROP TABLE train_keys; DROP TABLE evaluation_keys")
