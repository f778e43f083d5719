"""The unified schema: one set of columns for every task of every family.

A shard is an Arrow IPC file with exactly these columns in this order. Columns that a family does
not use are null.
"""

from __future__ import annotations

import pyarrow as pa

ANSWER = pa.struct([pa.field("text", pa.string()), pa.field("start", pa.int32())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("query", pa.string()),
        pa.field("choices", pa.list_(pa.string())),
        pa.field("label", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("answers", pa.list_(ANSWER)),
        pa.field("target", pa.string()),
    ]
)

#: The same types in DuckDB's words.
SQL_TYPES = {
    "id": "VARCHAR",
    "text": "VARCHAR",
    "query": "VARCHAR",
    "choices": "VARCHAR[]",
    "label": "INTEGER",
    "score": "FLOAT",
    "answers": "STRUCT(text VARCHAR, start INTEGER)[]",
    "target": "VARCHAR",
}
