"""Shards on disk: Arrow IPC files in the unified schema, several per split when large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.errors import MuppetError

#: Rows per record batch. Fixed, so that equal rows give equal bytes however they arrive.
BATCH_ROWS = 65_536
#: Rows per file.
FILE_ROWS = 16 * BATCH_ROWS


def rebatch(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly ``BATCH_ROWS``; the last one may be smaller."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        while held + batch.num_rows >= BATCH_ROWS:
            cut = BATCH_ROWS - held
            yield pa.concat_batches([*waiting, batch.slice(0, cut)])
            waiting, held, batch = [], 0, batch.slice(cut)
        if batch.num_rows:
            waiting.append(batch)
            held += batch.num_rows
    if waiting:
        yield pa.concat_batches(waiting)


class ShardWriter:
    """Write one split as ``<split>-00000.arrow``, ``<split>-00001.arrow``, …

    A context: the last file is finished on the way out. One batch is written by another thread
    while the next is made.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.rows = 0
        self._waiting: list[pa.RecordBatch] = []
        self._held = 0
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
        """Append rows; they reach the disk in batches of exactly ``BATCH_ROWS``."""
        self._waiting.append(batch)
        self._held += batch.num_rows
        while self._held >= BATCH_ROWS:
            self._flush(BATCH_ROWS)

    def _finish(self) -> None:
        if self._held or self._writer is None:
            self._flush(self._held)
        self._wait()
        self._writer.close()

    def _flush(self, rows: int) -> None:
        table = pa.Table.from_batches(self._waiting, SCHEMA)
        if self._writer is None or (self.rows and self.rows % FILE_ROWS == 0):
            self._next_file()
        self._wait()
        self._under_way = self._aside.submit(_write, self._writer, table.slice(0, rows))
        self._waiting = table.slice(rows).to_batches()
        self.rows += rows
        self._held -= rows

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
    """A split as a memory-mapped table in the unified schema: no row is copied."""
    return pa.Table.from_batches(batches(folder, split), SCHEMA)


def batches(folder: Path, split: str) -> Iterator[pa.RecordBatch]:
    """The record batches of a split, memory-mapped, in order."""
    files = sorted(Path(folder).glob(f"{split}-?????.arrow"))
    if not files:
        raise MuppetError(f"{folder}: no split {split!r}; there are {', '.join(splits(folder))}")
    for file in files:
        reader = pa.ipc.open_file(pa.memory_map(str(file)))
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
