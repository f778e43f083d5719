"""Rows of a token file come as they are in it, wherever they lie and whatever is null."""

from __future__ import annotations

import tracemalloc
from itertools import cycle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.corpus.tokenize import schema
from muppet_dag.errors import MuppetError
from muppet_dag.mixture.tokens import Tokens, ragged

NUMBERS = {"example": 0, "label": -1, "score": float("nan"), "start": 0, "end": 0}
LISTS = ("input_ids", "lengths", "second", "offsets", "target")


def table(draw: np.random.Generator, count: int, ids: pa.DataType, null: dict[str, float]):
    """Made-up rows; of each column named by ``null`` that share of the values is null."""
    top = np.iinfo(ids.to_pandas_dtype()).max
    rows = []
    for _ in range(count):
        row = {"passage": draw.integers(0, 2**16, 2).tolist(), "score": float(draw.integers(99))}
        row |= {name: int(draw.integers(-(2**31), 2**31)) for name in ("example", "label", "end")}
        row |= {name: draw.integers(0, top, draw.integers(4)).tolist() for name in LISTS[::4]}
        row |= {name: draw.integers(0, 2**15, draw.integers(3)).tolist() for name in LISTS[1:4]}
        rows.append({k: None if draw.random() < null.get(k, 0) else v for k, v in row.items()})
    return pa.Table.from_pylist(rows, schema(ids))


def write(folder: Path, rows: pa.Table, sizes: list[int], **options) -> Tokens:
    """A file of the rows in record batches of these sizes, over and over."""
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_file(str(folder / "train.arrow"), rows.schema, options=options) as writer:
        at, none = 0, pa.RecordBatch.from_pylist([], rows.schema)
        for size in cycle(sizes):
            if at >= len(rows):
                break
            parts = rows.slice(at, size).combine_chunks().to_batches()
            writer.write_batch(parts[0] if parts else none)
            at += size
    return Tokens(folder, "train")


SHARES = st.dictionaries(
    st.sampled_from(["label", "score", "end", "passage", "target", "offsets"]),
    st.sampled_from([0.5, 1.0]),
)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(0, 7), min_size=1, max_size=4).filter(any),
    wide=st.booleans(),
    null=SHARES,
)
def test_any_rows_come_as_they_are_in_the_file(tmp_path_factory, seed, sizes, wide, null):
    draw = np.random.default_rng(seed)
    rows = table(draw, int(draw.integers(1, 30)), pa.uint32() if wide else pa.uint16(), null)
    tokens = write(tmp_path_factory.mktemp("tokens"), rows, sizes)
    chosen = draw.integers(0, len(rows), draw.integers(0, 12))
    taken, plain = tokens.take(chosen), [rows.slice(i, 1).to_pylist()[0] for i in chosen]
    for name, missing in NUMBERS.items():
        expected = [missing if row[name] is None else row[name] for row in plain]
        assert np.array_equal(taken.numbers(name, missing), expected, equal_nan=name == "score")
    expected = [row["passage"] or (7, 7) for row in plain]
    assert taken.numbers("passage", 7).tolist() == [list(pair) for pair in expected]
    for name in LISTS:
        flat, lengths = taken.lists(name)
        lists = [row[name] or [] for row in plain]
        assert flat.tolist() == [value for each in lists for value in each]
        assert lengths.tolist() == [len(each) for each in lists]
        assert flat.dtype == lengths.dtype == np.int64
    assert len(tokens) == len(rows)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5))))
def test_ranges_come_one_after_the_other(ranges):
    starts, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
    assert ragged(starts, lengths).tolist() == [
        at for start, length in ranges for at in range(start, start + length)
    ]


@pytest.mark.parametrize("row", [-1, 10, 2**40])
def test_a_row_that_is_not_there_is_named(tmp_path, row):
    tokens = write(tmp_path, table(np.random.default_rng(1), 10, pa.uint16(), {}), [4])
    with pytest.raises(MuppetError, match=rf"no token row {row}, there are 10.*make it again"):
        tokens.take([3, row])


def test_a_file_without_rows_has_none(tmp_path):
    tokens = write(tmp_path, table(np.random.default_rng(1), 0, pa.uint16(), {}), [1])
    assert len(tokens) == 0
    assert tokens.take([]).lists("input_ids")[0].tolist() == []
    with pytest.raises(MuppetError, match="no token row 0"):
        tokens.take([0])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MuppetError, match=r"validation\.arrow: no such token file"):
        Tokens(tmp_path, "validation")


def test_a_compressed_file_is_refused(tmp_path):
    rows = table(np.random.default_rng(1), 100, pa.uint16(), {})
    tokens = write(tmp_path, rows, [100], compression="lz4")
    with pytest.raises(MuppetError, match="compressed token files cannot be read"):
        tokens.take([0]).lists("input_ids")


def test_a_whole_column_comes_in_order(tmp_path):
    rows = table(np.random.default_rng(1), 20, pa.uint16(), {})
    tokens = write(tmp_path, rows, [3, 0, 9])
    assert tokens.column("example").tolist() == rows.column("example").to_pylist()


def test_reading_some_rows_copies_only_those(tmp_path):
    lists = pa.ListArray.from_arrays(np.arange(0, 8_000_001, 100, dtype=np.int32),
                                     np.zeros(8_000_000, np.uint16))  # fmt: skip
    rows = pa.table({"input_ids": lists, "example": np.arange(80_000, dtype=np.int32)})
    tokens, taken = write(tmp_path, rows, [30_000]), np.arange(0, 80_000, 800)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    flat, _ = tokens.take(taken).lists("input_ids")
    tokens.take(taken).numbers("example")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(flat) == 10_000 and pa.total_allocated_bytes() == before
    assert peak < 1_000_000 < rows.nbytes
