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

#: What each column holds, for people.
ABOUT = {
    "id": "the dataset's own id, or split/row",
    "text": "what is read: a sentence, passage, context or document",
    "query": "a second sentence, or the question",
    "choices": "the candidates (multiple choice)",
    "label": "the class, or the right choice, from 0",
    "score": "the number to predict (regression)",
    "answers": "the answers and where they start in text, in characters; empty: there is none",
    "target": "the summary to write",
}

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
