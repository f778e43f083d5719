"""Token files, read by row number in any order and never as a whole.

A token file is memory-mapped and all its record batches lie in the one map. So a column is the map
seen as numbers of one type and, for each record batch, the place where its part starts; any rows of
the file are then one NumPy gather, and nothing but those rows is copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from muppet_dag.errors import MuppetError


class Tokens:
    """One split of a token artefact. MuppetError if there is no such file."""

    def __init__(self, folder: Path, split: str) -> None:
        self.path = Path(folder) / f"{split}.arrow"
        if not self.path.is_file():
            raise MuppetError(f"{self.path}: no such token file; make the task's tokens again")
        self._map = pa.memory_map(str(self.path)).read_buffer()
        reader = pa.ipc.open_file(self._map)
        self._schema = reader.schema
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        sizes = np.array([batch.num_rows for batch in self._batches], np.int64)
        self._ends = np.cumsum(sizes)
        self._starts = self._ends - sizes
        self._columns: dict[str, _Column] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, rows: Sequence[int] | np.ndarray) -> Rows:
        """The given rows in the given order. MuppetError if the file lacks one of them."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            wrong = rows[(rows < 0) | (rows >= len(self))][0]
            raise MuppetError(
                f"{self.path}: there is no token row {wrong}, there are {len(self)}. The mixture "
                "was made of other tokens than these; make it again."
            )
        batch = np.searchsorted(self._ends, rows, side="right")
        return Rows(self, batch, rows - self._starts[batch])

    def column(self, name: str) -> np.ndarray:
        """A whole flat column."""
        parts = [b.column(name).to_numpy(zero_copy_only=False) for b in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def mapped(self, name: str) -> _Column:
        """A column where it lies in the file; each is looked up once."""
        if name not in self._columns:
            arrays = [batch.column(name) for batch in self._batches]
            self._columns[name] = _Column(self._map, self._schema.field(name).type, arrays)
        return self._columns[name]


class Rows:
    """Some rows of a token file, read column by column.

    ``batch`` and ``row``, both (R,), are the record batch of each row and its number in there.
    """

    def __init__(self, tokens: Tokens, batch: np.ndarray, row: np.ndarray) -> None:
        self._tokens, self._batch, self._row = tokens, batch, row

    def numbers(self, name: str, missing: float = 0) -> np.ndarray:
        """A flat column (R,) or one of lists of fixed length (R, length); null is ``missing``.

        Integers come as int64, others as float32.
        """
        column = self._tokens.mapped(name)
        if column.absent:
            return np.full((len(self._row), *column.shape), missing, column.dtype)
        out = column.numbers(self._batch, self._row)
        if not column.whole:
            out[~column.present(self._batch, self._row)] = missing
        return out

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A column of integer lists: all values one after the other, and lengths (R,), int64.

        Null is a list of length 0.
        """
        column = self._tokens.mapped(name)
        if column.absent:
            return np.zeros(0, np.int64), np.zeros(len(self._row), np.int64)
        starts, lengths = column.bounds(self._batch, self._row)
        if not column.whole:
            lengths *= column.present(self._batch, self._row)
        return column.values[ragged(starts, lengths)].astype(np.int64), lengths


def ragged(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers start, start + 1, … of each of several ranges, one range after the other."""
    ends = np.cumsum(lengths)
    at = np.repeat(starts - (ends - lengths), lengths)
    at += np.arange(len(at))
    return at


class _Column:
    """One column of all record batches, as the places of its buffers in the map.

    Whatever the type, an array's first buffer holds a bit for each row that is not null and its
    last one the values; lists have their offsets between the two (the Arrow columnar format).
    """

    def __init__(self, file: pa.Buffer, kind: pa.DataType, arrays: list[pa.Array]) -> None:
        nulls = np.array([array.null_count for array in arrays])
        self.whole = not nulls.any()
        self.absent = int(nulls.sum()) == sum(map(len, arrays))
        self._no_nulls = nulls == 0
        inner = kind.value_type if pa.types.is_nested(kind) else kind
        self.shape = (kind.list_size,) if pa.types.is_fixed_size_list(kind) else ()
        self.dtype = np.int64 if pa.types.is_integer(inner) else np.float32
        buffers = [array.buffers() for array in arrays]
        self.values = _view(file, inner.to_pandas_dtype())
        self._values_at = _places(file, [each[-1] for each in buffers], self.values.itemsize)
        self._offsets = _view(file, np.int32)
        self._offsets_at = _places(file, [each[1] for each in buffers], 4)
        self._bits = _view(file, np.uint8)
        self._bits_at = _places(file, [each[0] for each in buffers], 1)

    def numbers(self, batch: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Values of a flat or fixed-length column, whatever null rows hold included."""
        if not self.shape:
            return self.values[self._values_at[batch] + row].astype(self.dtype)
        first = self._values_at[batch] + row * self.shape[0]
        return self.values[first[:, None] + np.arange(self.shape[0])].astype(self.dtype)

    def bounds(self, batch: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each row's list starts among ``values``, and its length."""
        at = self._offsets_at[batch] + row
        start = self._offsets[at].astype(np.int64)
        return self._values_at[batch] + start, self._offsets[at + 1] - start

    def present(self, batch: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Which rows are not null; a record batch without nulls may have no bits."""
        bits = self._bits[self._bits_at[batch] + (row >> 3)] >> (row & 7) & 1
        return self._no_nulls[batch] | (bits == 1)


def _view(file: pa.Buffer, dtype: type) -> np.ndarray:
    """The file as numbers of one type; Arrow starts each buffer at a multiple of 8 bytes."""
    return np.frombuffer(file, dtype, file.size // np.dtype(dtype).itemsize)


def _places(file: pa.Buffer, buffers: list[pa.Buffer | None], size: int) -> np.ndarray:
    """The first element of each buffer, counted from the file's start in elements of ``size``."""
    empty = [buffer is None or not buffer.size for buffer in buffers]
    at = [0 if e else b.address - file.address for e, b in zip(empty, buffers, strict=True)]
    places = np.array(at, np.int64)
    if ((places < 0) | (places >= file.size)).any():
        raise MuppetError("compressed token files cannot be read; make the task's tokens again")
    return places // size
