"""Shards on disk: Arrow IPC files in the unified schema, several per split when large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.errors import MuppetError

#: Rows per record batch, and bytes of text from which on it is full with fewer. The rows alone
#: decide, so that equal rows give equal bytes however they arrive; few, as several batches are in
#: memory at a time and a row may be a document.
BATCH_ROWS, BATCH_BYTES = 8_192, 32_000_000
#: Rows per file.
FILE_ROWS = 128 * BATCH_ROWS


def rebatch(
    batches: Iterable[pa.RecordBatch], rows: int = BATCH_ROWS, size: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly ``rows``; smaller are the last one, and those that have
    ``size`` bytes before."""
    waiting: list[pa.RecordBatch] = []
    held = held_bytes = 0
    for batch in batches:
        while held + batch.num_rows >= rows:
            cut = rows - held
            yield pa.concat_batches([*waiting, batch.slice(0, cut)])
            waiting, held, held_bytes, batch = [], 0, 0, batch.slice(cut)
        if batch.num_rows:
            waiting.append(batch)
            held += batch.num_rows
            held_bytes += batch.nbytes if size else 0
        if size and held_bytes >= size:
            yield pa.concat_batches(waiting)
            waiting, held, held_bytes = [], 0, 0
    if waiting:
        yield pa.concat_batches(waiting)


def chunks(batch: pa.RecordBatch, size: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Parts of a batch of about ``size`` bytes, each with the number of its first row."""
    step = max(1, int(batch.num_rows * size / max(1, batch.nbytes)))
    for at in range(0, batch.num_rows, step):
        yield at, batch.slice(at, step)


def text_bytes(array: pa.Array) -> np.ndarray:
    """The bytes of text in each value (int64, one per value), also inside of lists and structs."""
    kind = array.type
    if array.null_count == len(array):
        return np.zeros(len(array), np.int64)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(pc.fill_null(pc.binary_length(array), 0), np.int64)
    if pa.types.is_list(kind):
        ends = np.concatenate([[0], np.cumsum(text_bytes(array.values))])[np.asarray(array.offsets)]
        return np.where(np.asarray(array.is_valid()), np.diff(ends), 0)
    if pa.types.is_struct(kind):
        parts = (text_bytes(pc.struct_field(array, [i])) for i in range(kind.num_fields))
        return sum(parts, np.zeros(len(array), np.int64))
    return np.zeros(len(array), np.int64)


class ShardWriter:
    """Write one split as ``<split>-00000.arrow``, ``<split>-00001.arrow``, …

    A context: the last file is finished on the way out. One batch is written by another thread
    while the next is made.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._held = self._size = 0
        self._writer: pa.RecordBatchFileWriter | None = None
        self._aside = ThreadPoolExecutor(max_workers=1)
        self._under_way: Future[None] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        with self._aside:
            if kind is None:
                self._finish()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; a batch of ``BATCH_ROWS`` or ``BATCH_BYTES`` goes to the disk."""
        ends = np.cumsum(sum(map(text_bytes, batch.columns)))
        start = 0
        while (rows := self._missing(ends, start)) <= batch.num_rows - start:
            self._waiting.append(batch.slice(start, rows))
            self._flush()
            start += rows
        if start < batch.num_rows:
            self._waiting.append(batch.slice(start))
            self._held += batch.num_rows - start
            self._size += int(ends[-1] - (ends[start - 1] if start else 0))

    def _missing(self, ends: np.ndarray, start: int) -> int:
        """How many rows, behind ``start``, fill the batch; ``ends`` are sizes added up."""
        before = ends[start - 1] if start else 0
        by_size = np.searchsorted(ends[start:], before + BATCH_BYTES - self._size) + 1
        return min(BATCH_ROWS - self._held, FILE_ROWS - self.rows % FILE_ROWS - self._held, by_size)

    def _finish(self) -> None:
        if self._held or self._writer is None:
            self._flush()
        self._wait()
        self._writer.close()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._waiting, SCHEMA)
        if self._writer is None or (self.rows and self.rows % FILE_ROWS == 0):
            self._next_file()
        self._wait()
        self._under_way = self._aside.submit(_write, self._writer, table)
        self._waiting, self._held, self._size = [], 0, 0
        self.rows += table.num_rows

    def _next_file(self) -> None:
        self._wait()
        if self._writer is not None:
            self._writer.close()
        path = self.folder / f"{self.split}-{self.rows // FILE_ROWS:05d}.arrow"
        self._writer = pa.ipc.new_file(str(path), SCHEMA)

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()


def _write(writer: pa.RecordBatchFileWriter, table: pa.Table) -> None:
    writer.write_table(table.combine_chunks())


def splits(folder: Path) -> list[str]:
    """The splits that a shard folder holds."""
    return sorted({path.name.rsplit("-", 1)[0] for path in Path(folder).glob("*-?????.arrow")})


def read(folder: Path, split: str) -> pa.Table:
    """A split as a memory-mapped table in the unified schema: no row is copied.

    For rows here and there: pages once read count as this process's memory while the table lives.
    """
    return pa.Table.from_batches(_batches(folder, split, pa.memory_map), SCHEMA)


def is_unified(folder: Path, split: str) -> bool:
    """Whether every file of a split has the unified schema."""
    readers = (pa.ipc.open_file(str(path)) for path in files(folder, split))
    return all(reader.schema.equals(SCHEMA) for reader in readers)


def batches(
    folder: Path, split: str, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The record batches of a split in order, each read into memory: all columns, or some."""
    return _batches(folder, split, pa.OSFile, columns)


def numbered(folder: Path, split: str, *columns: str) -> pa.RecordBatchReader:
    """Columns of a split and ``row``, the number of each row, as DuckDB can read them once."""
    fields = [SCHEMA.field(name) for name in columns]
    return pa.RecordBatchReader.from_batches(
        pa.schema([*fields, pa.field("row", pa.int64())]), _numbered(folder, split, columns)
    )


def files(folder: Path, split: str) -> list[Path]:
    """The files of a split in order. MuppetError if there are none."""
    paths = sorted(Path(folder).glob(f"{split}-?????.arrow"))
    if not paths:
        raise MuppetError(f"{folder}: no split {split!r}; there are {', '.join(splits(folder))}")
    return paths


def _numbered(folder: Path, split: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in batches(folder, split, columns):
        rows = pa.array(np.arange(first, first + batch.num_rows))
        yield batch.select(columns).append_column("row", rows)
        first += batch.num_rows


def _batches(
    folder: Path, split: str, opened: Callable[[str], pa.NativeFile],
    columns: Sequence[str] | None = None,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    chosen = columns and [SCHEMA.get_field_index(name) for name in columns]
    options = pa.ipc.IpcReadOptions(included_fields=chosen)
    for path in files(folder, split):
        with opened(str(path)) as file:
            reader = pa.ipc.open_file(file, options=options)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index)
