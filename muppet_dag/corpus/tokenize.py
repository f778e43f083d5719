"""Shards become tokens: ready model inputs, written once, read by memory map.

One token row is one training row: a text (or pair), a question with all its candidates, one
window of a long passage, or a document with its summary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from muppet_dag.catalogue import Task
from muppet_dag.corpus import shards
from muppet_dag.corpus.encode import ENCODE, Row, TokenSpec
from muppet_dag.corpus.specials import load_tokenizer
from muppet_dag.errors import BadConfig
from muppet_dag.recipes.sections import stride_problem

if TYPE_CHECKING:
    from tokenizers import Encoding

#: Raise when the same shards would give other tokens.
VERSION = "3"
#: Token rows per record batch, and bytes of text that are encoded at a time: until it is columns, a
#: token takes some 300 bytes.
BATCH_ROWS, CHUNK = 4096, 1 << 20
#: Half of a window may be the question; the rest must hold more of the passage than two windows
#: share, which is a third of a window at most.
SHORTEST = 24


def schema(ids: pa.DataType) -> pa.Schema:
    """The columns of a token file. ``ids`` is the smallest integer type that holds the vocabulary.

    ``input_ids`` holds the row's sequences one after the other (several for multiple choice) and
    ``lengths`` their lengths; ``second`` is where each one's second segment starts (its length if
    there is none). ``start`` and ``end`` are token positions of the span, both 0 when the window
    holds no answer; ``passage`` is the half-open range of positions that belong to the passage and
    ``offsets`` the character range of each of them, flattened. ``width`` (longest sequence),
    ``sequences`` and ``target_length`` are what slots are cut by; ``tokens`` counts all the row's
    tokens. ``example`` is the shard row.
    """
    small = pa.uint16()
    return pa.schema(
        [
            pa.field("example", pa.int32()),
            pa.field("input_ids", pa.list_(ids)),
            pa.field("lengths", pa.list_(small)),
            pa.field("second", pa.list_(small)),
            pa.field("label", pa.int32()),
            pa.field("score", pa.float32()),
            pa.field("start", pa.int32()),
            pa.field("end", pa.int32()),
            pa.field("passage", pa.list_(small, 2)),
            pa.field("offsets", pa.list_(pa.int32())),
            pa.field("target", pa.list_(ids)),
            pa.field("width", small),
            pa.field("sequences", small),
            pa.field("target_length", small),
            pa.field("tokens", pa.int32()),
        ]
    )


def tokenize(
    task: Task, shard_folder: Path, model_folder: Path, folder: Path, spec: TokenSpec,
    facts_of_base: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write ``<split>.arrow`` for every split of the shards; returns the facts for the manifest.

    The base model's facts say how many positions it has (``model.suitable.positions``).
    """
    tokenizer = load_tokenizer(model_folder)
    _check_fits(task, spec, facts_of_base or {})
    ids = pa.uint16() if tokenizer.get_vocab_size() <= 2**16 else pa.uint32()
    facts: dict[str, Any] = {"family": task.family, "spec": asdict(spec), "splits": {}}
    encode = partial(ENCODE[task.family], tokenizer, task, spec)
    for split in shards.splits(shard_folder):
        counts = {"rows": 0, "examples": 0, "tokens": 0, "longest": 0, "full": 0}
        rows = _token_rows(encode, shard_folder, split)
        with pa.ipc.new_file(str(folder / f"{split}.arrow"), schema(ids)) as writer:
            for batch in shards.rebatch(_counted(rows, counts, spec, schema(ids)), BATCH_ROWS):
                writer.write_batch(batch)
        facts["splits"][split] = counts
    return facts


def _token_rows(
    encode: Callable[[dict, int], list[Row]], folder: Path, split: str
) -> Iterator[list[Row]]:
    """Token rows of a split, those of a megabyte of text at a time."""
    first = 0
    for batch in shards.batches(folder, split):
        for at, chunk in shards.chunks(batch, CHUNK):
            yield encode(chunk.to_pydict(), first + at)
        first += batch.num_rows


def _counted(
    chunks: Iterable[list[Row]], counts: dict[str, int], spec: TokenSpec, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Token rows as columns; ``counts`` grows with them."""
    for rows in chunks:
        _count(counts, rows, spec)
        yield _record_batch(rows, schema)


def _record_batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    dtype = schema.field("input_ids").type.value_type.to_pandas_dtype()
    lengths = [[len(s.ids) for s in row.sequences] for row in rows]
    columns = {
        "example": [row.example for row in rows],
        "input_ids": _lists([[i for s in row.sequences for i in s.ids] for row in rows], dtype),
        "lengths": _lists(lengths, np.uint16),
        "second": _lists([[_second(s) for s in row.sequences] for row in rows], np.uint16),
        "passage": [row.passage for row in rows],
        "offsets": [None if row.offsets is None else row.offsets.ravel() for row in rows],
        "target": [row.target for row in rows],
        "width": [max(each) for each in lengths],
        "sequences": [len(each) for each in lengths],
        "target_length": [len(row.target or ()) for row in rows],
        "tokens": [sum(n) + len(row.target or ()) for n, row in zip(lengths, rows, strict=True)],
    }
    for name in ("label", "score", "start", "end"):
        columns[name] = [getattr(row, name) for row in rows]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, schema.field(name).type)
        for name, column in ((name, columns[name]) for name in schema.names)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _lists(lists: list[list[int]], dtype: type) -> pa.ListArray:
    """A list column from Python lists by way of one flat NumPy array."""
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum([len(each) for each in lists], out=offsets[1:])
    flat = np.fromiter((i for each in lists for i in each), dtype, count=int(offsets[-1]))
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat))


def _second(encoding: Encoding) -> int:
    """Where token type 1 starts (models without token types never look)."""
    types = np.array(encoding.type_ids, np.uint8)
    return int(types.argmax()) if types.any() else len(types)


def _count(counts: dict[str, int], rows: list[Row], spec: TokenSpec) -> None:
    lengths = [len(s.ids) for row in rows for s in row.sequences]
    counts["rows"] += len(rows)
    counts["examples"] = rows[-1].example + 1 if rows else counts["examples"]
    counts["tokens"] += sum(lengths) + sum(len(row.target or ()) for row in rows)
    counts["longest"] = max([counts["longest"], *lengths])
    counts["full"] += sum(length >= spec.max_length for length in lengths)


def _check_fits(task: Task, spec: TokenSpec, facts_of_base: Mapping[str, Any]) -> None:
    """Refuse a length that the model has no positions for, or that leaves windows no room."""
    if spec.max_length < SHORTEST:
        raise BadConfig(f"max_length {spec.max_length}: at least {SHORTEST} tokens are needed.")
    if problem := stride_problem(spec.max_length, spec.stride):
        raise BadConfig(problem)
    # A decoder reads the target, or of what is to be understood the text once more.
    decoded = "max_target_length" if task.family == "summarization" else "max_length"
    for key, fact in (("max_length", "positions"), (decoded, "decoder_positions")):
        length, positions = getattr(spec, key), facts_of_base.get(fact)
        if positions is not None and length > positions:
            side = "decoder" if fact == "decoder_positions" else "model"
            raise BadConfig(
                f"{key} {length}: the {side} has {positions} positions. Lower model.{key} in the "
                "recipe."
            )
