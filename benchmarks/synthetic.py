"""Made-up raw parquet files of any size, laid out as the Hub: sentence pairs and long passages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.text import texts, vocabulary

SEED, VOCABULARY = 20210111, 200_000
#: Words of a premise, a hypothesis, a passage and a question, in the mean.
PREMISE, HYPOTHESIS, PASSAGE, QUESTION = 20, 10, 1_000, 10
#: Bytes of text in a row group, row groups in a file: about what the Hub's library writes.
ROW_GROUP, GROUPS = 100_000_000, 5


def write(root: Path, gigabytes: float) -> int:
    """Write the training splits of ``TASKS``; returns the bytes of text in them."""
    from muppet_dag import catalogue

    draw = np.random.default_rng(SEED)
    words = vocabulary(draw, VOCABULARY)
    written = 0
    for name, (share, make) in TASKS.items():
        dataset = catalogue.get(name).dataset
        folder = root / dataset.repository / dataset.config
        folder.mkdir(parents=True)
        written += _split(folder, round(share * gigabytes * 1e9), partial(make, draw, words))
    return written


def pairs(draw: np.random.Generator, words: pa.Array, size: int) -> pa.Table:
    """Rows of MNLI with about ``size`` bytes of text."""
    count = _rows(words, size, PREMISE + HYPOTHESIS)
    return pa.table(
        {
            "premise": texts(draw, words, draw.poisson(PREMISE, count).clip(1)),
            "hypothesis": texts(draw, words, draw.poisson(HYPOTHESIS, count).clip(1)),
            "label": draw.integers(0, 3, count),
            "idx": np.arange(count, dtype=np.int32),
        }
    )


def passages(draw: np.random.Generator, words: pa.Array, size: int) -> pa.Table:
    """Rows of SQuAD with about ``size`` bytes of text; the answer is a word of the passage."""
    count = _rows(words, size, PASSAGE + QUESTION)
    context = texts(draw, words, draw.poisson(PASSAGE, count).clip(1))
    ids = pc.cast(pa.array(draw.integers(0, 1 << 62, count)), pa.string())
    return pa.table(
        {
            "id": ids,
            "title": pa.array(["made up"] * count),
            "context": context,
            "question": texts(draw, words, draw.poisson(QUESTION, count).clip(1)),
            "answers": [_answer(text, place) for text, place in zip(
                context.to_pylist(), draw.random(count), strict=True)],
        }
    )  # fmt: skip


#: The share of the bytes that each task gets, and what makes its rows.
TASKS: dict[str, tuple[float, Callable[[np.random.Generator, pa.Array, int], pa.Table]]] = {
    "mnli": (0.9, pairs),
    "squad": (0.1, passages),
}


def _split(folder: Path, size: int, make: Callable[[int], pa.Table]) -> int:
    """Write a training split of about ``size`` bytes of text, in as many files as it takes."""
    groups = [min(ROW_GROUP, size - at) for at in range(0, size, ROW_GROUP)]
    files = [groups[at : at + GROUPS] for at in range(0, len(groups), GROUPS)]
    written = 0
    for number, sizes in enumerate(files):
        path = folder / f"train-{number:05d}-of-{len(files):05d}.parquet"
        tables = (make(each) for each in sizes)
        first = next(tables)
        with pq.ParquetWriter(path, first.schema) as writer:
            for table in (first, *tables):
                writer.write_table(table, row_group_size=table.num_rows)
                texts_of = [c for c in table.columns if c.type == pa.string()]
                written += sum(pc.sum(pc.binary_length(c)).as_py() for c in texts_of)
    return written


def _rows(words: pa.Array, size: int, words_a_row: int) -> int:
    """How many rows make ``size`` bytes."""
    word = np.average(pc.binary_length(words), weights=1 / np.arange(1, len(words) + 1))
    return max(1, round(size / ((word + 1) * words_a_row)))


def _answer(text: str, place: float) -> dict[str, list]:
    start = text.rfind(" ", 0, int(place * len(text))) + 1
    return {"text": [text[start:].split(" ", 1)[0]], "answer_start": [start]}
