"""A batch holds its rows whole, one after the other, and says what they cost."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.mixture.batch import INPUTS, Batch, Tokens, collate

NAMES = ("rte", "stsb", "arc_easy", "squad", "squad_v2", "aeslc")
LEAST = 96  # rows of each


@pytest.fixture(scope="module")
def paths(bench) -> dict[str, Path]:
    return {name: bench.tokens(name, "tiny-bart").path for name in NAMES}


def rows_of(folder: Path) -> list[dict]:
    return pa.ipc.open_file(pa.memory_map(str(folder / "train.arrow"))).read_all().to_pylist()


def arrays(batch: Batch) -> dict[str, np.ndarray]:
    return {
        f.name: getattr(batch, f.name) for f in fields(Batch) if f.name not in ("task", "pinned")
    }


def same(one: Batch, other: Batch) -> bool:
    """Equal as to the values of every array, and their types."""
    pairs = zip(arrays(one).values(), arrays(other).values(), strict=True)
    return one.task == other.task and all(
        a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs
    )


CHOSEN = st.lists(st.integers(0, LEAST - 1), min_size=1, max_size=12)


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(NAMES), chosen=CHOSEN)
def test_a_batch_is_its_rows_one_after_the_other(paths, name, chosen):
    batch = collate(name, Tokens(paths[name], "train"), chosen)
    every = rows_of(paths[name])
    rows = [every[i] for i in chosen]
    flat = {"input_ids": "input_ids", "lengths": "lengths", "second": "second", "target": "target"}
    for field, column in flat.items():
        expected = [value for row in rows for value in row[column] or ()]
        assert getattr(batch, field).tolist() == expected
    assert batch.task == name and batch.rows.tolist() == chosen
    assert batch.examples.tolist() == [row["example"] for row in rows]
    assert batch.sequences.tolist() == [len(row["lengths"]) for row in rows]
    assert batch.target_lengths.tolist() == [len(row["target"] or ()) for row in rows]
    assert batch.labels.tolist() == [-1 if row["label"] is None else row["label"] for row in rows]
    scores = [np.nan if row["score"] is None else row["score"] for row in rows]
    assert np.array_equal(batch.scores, scores, equal_nan=True)
    assert batch.span.tolist() == [[row["start"] or 0, row["end"] or 0] for row in rows]
    assert batch.passage.tolist() == [row["passage"] or [0, 0] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_counted_with_and_without_padding(paths, name):
    batch = collate(name, Tokens(paths[name], "train"), chosen := [3, 0, 7, 11])
    every = rows_of(paths[name])
    rows = [every[i] for i in chosen]
    assert batch.tokens == sum(row["tokens"] for row in rows)
    padded = sum(row["sequences"] for row in rows) * max(row["width"] for row in rows)
    assert batch.padded_tokens == padded + len(rows) * max(row["target_length"] for row in rows)


@settings(deadline=None, max_examples=40)
@given(name=st.sampled_from(NAMES), parts=st.lists(CHOSEN, min_size=1, max_size=5))
def test_parts_of_a_batch_are_what_their_rows_give_alone(paths, name, parts):
    tokens = Tokens(paths[name], "train")
    whole = collate(name, tokens, [row for part in parts for row in part])
    for batch, part in zip(whole.split([len(part) for part in parts]), parts, strict=True):
        assert same(batch, collate(name, tokens, part))


@pytest.mark.parametrize("name", NAMES)
def test_tensors_hold_what_the_arrays_hold(paths, name):
    batch = collate(name, Tokens(paths[name], "train"), [3, 0, 7])
    tensors = batch.tensors()
    assert set(tensors) == set(INPUTS) and {"rows", "examples"} == set(arrays(batch)) - set(INPUTS)
    for key, tensor in tensors.items():
        assert tensor.dtype == (torch.float32 if key == "scores" else torch.int64)
        assert np.array_equal(tensor.numpy(), getattr(batch, key), equal_nan=key == "scores")


def test_tensors_that_were_made_ahead_are_not_made_again(paths):
    batch = collate("rte", Tokens(paths["rte"], "train"), [1, 2])
    ahead = {name: tensor.clone() for name, tensor in batch.tensors().items()}
    assert replace(batch, pinned=ahead).tensors() is ahead


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_tensors_can_be_pinned(paths):
    batch = collate("arc_easy", Tokens(paths["arc_easy"], "train"), [1, 2])
    pinned, plain = batch.tensors(pin=True), batch.tensors()
    assert all(each.is_pinned() for each in pinned.values() if each.numel())
    assert all(pinned[name].equal(plain[name]) for name in INPUTS if name != "scores")
