"""Shards become tokens: ready model inputs, written once, read by memory map.

One token row is one training row: a text (or pair), a question with all its candidates, one
window of a long passage, or a document with its summary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from muppet_dag.catalogue import Task
from muppet_dag.corpus import shards
from muppet_dag.errors import BadConfig

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

#: Raise when the same shards would give other tokens.
VERSION = "2"
#: Token rows per record batch, and bytes of text that are encoded at a time: until it is columns, a
#: token takes some 300 bytes.
BATCH_ROWS, CHUNK = 4096, 1 << 20
#: Half of it may be the question; the rest must hold a window of the passage and its overlap.
SHORTEST = 24


@dataclass(frozen=True)
class TokenSpec:
    """How long model inputs may get, in tokens. ``stride`` is what neighbouring windows share."""

    max_length: int = 512
    stride: int = 128
    max_target_length: int = 128


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
    task: Task, shard_folder: Path, model_folder: Path, folder: Path, spec: TokenSpec
) -> dict[str, Any]:
    """Write ``<split>.arrow`` for every split of the shards; returns the facts for the manifest."""
    tokenizer = load_tokenizer(model_folder)
    _check_fits(model_folder, spec)
    ids = pa.uint16() if tokenizer.get_vocab_size() <= 2**16 else pa.uint32()
    facts: dict[str, Any] = {"family": task.family, "spec": asdict(spec), "splits": {}}
    encode = partial(_ENCODE[task.family], tokenizer, task, spec)
    for split in shards.splits(shard_folder):
        counts = {"rows": 0, "examples": 0, "tokens": 0, "longest": 0, "full": 0}
        rows = _token_rows(encode, shard_folder, split)
        with pa.ipc.new_file(str(folder / f"{split}.arrow"), schema(ids)) as writer:
            for batch in shards.rebatch(_counted(rows, counts, spec, schema(ids)), BATCH_ROWS):
                writer.write_batch(batch)
        facts["splits"][split] = counts
    return facts


def load_tokenizer(model_folder: Path) -> Tokenizer:
    """The Rust tokenizer of a model folder (``tokenizer.json``), with no padding or truncation."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(model_folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass
class _Row:
    """One token row before it becomes columns."""

    example: int
    sequences: list[Encoding]
    label: int | None = None
    score: float | None = None
    start: int | None = None
    end: int | None = None
    passage: tuple[int, int] | None = None
    offsets: np.ndarray | None = None
    target: list[int] | None = None


def _token_rows(
    encode: Callable[[dict, int], list[_Row]], folder: Path, split: str
) -> Iterator[list[_Row]]:
    """Token rows of a split, those of a megabyte of text at a time."""
    first = 0
    for batch in shards.batches(folder, split):
        for at, chunk in shards.chunks(batch, CHUNK):
            yield encode(chunk.to_pydict(), first + at)
        first += batch.num_rows


def _counted(
    chunks: Iterable[list[_Row]], counts: dict[str, int], spec: TokenSpec, schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Token rows as columns; ``counts`` grows with them."""
    for rows in chunks:
        _count(counts, rows, spec)
        yield _record_batch(rows, schema)


def _classification(
    tokenizer: Tokenizer, task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[_Row]:
    """A text or a pair; a regression score is brought to [0, 1]."""
    pairs = [_pair(a, b) for a, b in zip(rows["text"], rows["query"], strict=True)]
    tokenizer.enable_truncation(spec.max_length, strategy="longest_first")
    encoded = tokenizer.encode_batch_fast(pairs)
    low, high = task.score_range or (0.0, 1.0)
    scores = [None if score is None else (score - low) / (high - low) for score in rows["score"]]
    labelled = enumerate(zip(encoded, rows["label"], scores, strict=True))
    return [_Row(first + i, [e], label=label, score=score) for i, (e, label, score) in labelled]


def _commonsense(
    tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[_Row]:
    """All candidates of a question stay in one row: context, then question with candidate."""
    tokenizer.enable_truncation(spec.max_length, strategy="longest_first")
    columns = zip(rows["text"], rows["query"], rows["choices"], strict=True)
    pairs = [[_candidate(text, query, c) for c in choices] for text, query, choices in columns]
    encoded = iter(tokenizer.encode_batch_fast([pair for group in pairs for pair in group]))
    return [
        _Row(first + i, [next(encoded) for _ in group], label=rows["label"][i])
        for i, group in enumerate(pairs)
    ]


def _candidate(text: str, query: str | None, choice: str) -> str | tuple[str, str]:
    """A gap in the question is filled with the candidate, as fairseq does for RACE."""
    if query and "_" in query:
        filled = query.replace("_", f" {choice} ", 1)
        return _pair(text, " ".join(filled.split())) if text else " ".join(filled.split())
    if not text:
        return _pair(query, choice) if query else choice
    return text, f"{query} {choice}" if query else choice


def _summarization(
    tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int
) -> list[_Row]:
    tokenizer.enable_truncation(spec.max_length)
    sources = tokenizer.encode_batch_fast(rows["text"])
    tokenizer.enable_truncation(spec.max_target_length)
    targets = tokenizer.encode_batch_fast(rows["target"])
    both = enumerate(zip(sources, targets, strict=True))
    return [_Row(first + i, [source], target=target.ids) for i, (source, target) in both]


def _mrc(tokenizer: Tokenizer, _task: Task, spec: TokenSpec, rows: dict, first: int) -> list[_Row]:
    """Sliding windows over the passage; the question is never cut short by them.

    A window that does not hold the whole answer has the span (0, 0), the no-answer position.
    """
    queries = _shortened(tokenizer, rows["query"], spec.max_length // 2)
    tokenizer.enable_truncation(spec.max_length, stride=_stride(spec), strategy="only_second")
    encoded = tokenizer.encode_batch(list(zip(queries, rows["text"], strict=True)))
    out = []
    for i, (encoding, answers) in enumerate(zip(encoded, rows["answers"], strict=True)):
        for window in [encoding, *encoding.overflowing]:
            out.append(_window(first + i, window, answers))
    return out


_ENCODE = {
    "classification": _classification,
    "commonsense": _commonsense,
    "mrc": _mrc,
    "summarization": _summarization,
}


def _window(example: int, window: Encoding, answers: list[dict]) -> _Row:
    segments = np.array([-1 if s is None else s for s in window.sequence_ids])
    positions = np.flatnonzero(segments == 1)
    first, last = (int(positions[0]), int(positions[-1]) + 1) if len(positions) else (0, 0)
    offsets = np.array(window.offsets, np.int32).reshape(-1, 2)[first:last]
    start = end = 0
    if answers and len(offsets):
        low, high = answers[0]["start"], answers[0]["start"] + len(answers[0]["text"])
        if offsets[0, 0] <= low and high <= offsets[-1, 1]:
            start = first + int(np.searchsorted(offsets[:, 0], low, side="right")) - 1
            end = first + int(np.searchsorted(offsets[:, 1], high, side="left"))
    return _Row(example, [window], start=start, end=end, passage=(first, last), offsets=offsets)


def _shortened(tokenizer: Tokenizer, texts: Sequence[str], tokens: int) -> list[str]:
    """Texts cut to at most ``tokens`` tokens, so that a question leaves room for its passage."""
    tokenizer.no_truncation()
    encoded = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    cut = zip(texts, encoded, strict=True)
    return [t[: e.offsets[tokens - 1][1]] if len(e.ids) > tokens else t for t, e in cut]


def _stride(spec: TokenSpec) -> int:
    """Overlap of windows; the shortest passage part is half a window less special tokens."""
    return min(spec.stride, spec.max_length // 4)


def _pair(first: str, second: str | None) -> str | tuple[str, str]:
    return first if second is None else (first, second)


def _record_batch(rows: list[_Row], schema: pa.Schema) -> pa.RecordBatch:
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


def _count(counts: dict[str, int], rows: list[_Row], spec: TokenSpec) -> None:
    lengths = [len(s.ids) for row in rows for s in row.sequences]
    counts["rows"] += len(rows)
    counts["examples"] = rows[-1].example + 1 if rows else counts["examples"]
    counts["tokens"] += sum(lengths) + sum(len(row.target or ()) for row in rows)
    counts["longest"] = max([counts["longest"], *lengths])
    counts["full"] += sum(length >= spec.max_length for length in lengths)


def _check_fits(model_folder: Path, spec: TokenSpec) -> None:
    """Refuse a length that the model has no positions for, or that leaves windows no room."""
    if spec.max_length < SHORTEST:
        raise BadConfig(f"max_length {spec.max_length}: at least {SHORTEST} tokens are needed.")
    config = json.loads((Path(model_folder) / "config.json").read_text())
    positions = config.get("max_position_embeddings")
    if positions and config.get("model_type") in {"roberta", "xlm-roberta", "camembert"}:
        positions -= config.get("pad_token_id", 1) + 1  # these count positions from pad + 1
    if positions and max(spec.max_length, spec.max_target_length) > positions:
        raise BadConfig(
            f"max_length {spec.max_length} (target {spec.max_target_length}): the model has "
            f"{positions} positions. Lower model.max_length in the recipe."
        )
