"""How raw files are read: the files that are named, as they were written, and nothing else.

Whatever a file is called, DuckDB meets it as ``0.parquet``, ``1.parquet``, … in a temporary folder:
Parquet by a link, text files (and Parquet in pieces too large for memory) by a copy. So no name is
a pattern, no folder is a column, and no ending a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from muppet_dag.corpus.database import database, identifier, lock, require_room
from muppet_dag.corpus.raw.delimited import delimited_batches
from muppet_dag.corpus.raw.jsonlines import json_batches
from muppet_dag.corpus.raw.unite import Parquet, united
from muppet_dag.corpus.shards import BATCH_ROWS
from muppet_dag.errors import SourceError

if TYPE_CHECKING:
    import duckdb

#: The view of the raw rows.
RAW = "raw"
#: Row groups of Parquet from which on they are cut to pieces: DuckDB holds whole ones (bytes).
GROUP = 256_000_000
#: Bytes of rows that DuckDB hands over at a time.
AT_ONCE = 16_000_000
#: Bytes of a raw row (whole web pages) from which on one thread reads: each holds about a thousand
#: rows, and copies of them.
LONG = 32_000


@dataclass
class Raw:
    """The raw rows of one split: the view ``raw`` of a database that reads nothing else.

    ``unusable`` says of columns that the view leaves out what is wrong with them.
    """

    con: duckdb.DuckDBPyConnection
    files: list[Parquet]
    unusable: dict[str, str] = field(default_factory=dict)

    @property
    def rows_at_once(self) -> int:
        """How many rows are about ``AT_ONCE`` bytes."""
        return max(1, min(BATCH_ROWS, AT_ONCE // max(each.row_bytes for each in self.files)))

    def renamed(self, message: str) -> str:
        """A message in which files have their own names."""
        for each in self.files:
            message = message.replace(str(each.path), str(each.named))
        return message


@contextmanager
def opened(paths: Sequence[Path], *, quote: str = '"', memory: str = "") -> Iterator[Raw]:
    """The rows of files of one kind, which their endings tell, in order, as the view ``raw``.

    ``quote`` is the sign that encloses fields of CSV and TSV, "" for none. SourceError if a file
    cannot be read.
    """
    with TemporaryDirectory(prefix="muppet-dag-") as folder, database(memory) as con:
        raw = Raw(con, [])
        for number, path in enumerate(paths):
            target = Path(folder) / f"{number}.parquet"
            try:
                raw.unusable |= _put(path, target, quote)
                raw.files.append(Parquet.open(con, target, path))
            except (pa.ArrowException, OSError) as error:
                require_room(error)
                message = str(error).replace(str(target), str(path))
                raise SourceError(f"{path.name}: {message.splitlines()[0]}") from error
        select, unusable = united(con, raw.files)
        raw.unusable |= unusable
        con.execute(f"CREATE VIEW {identifier(RAW)} AS {select}")
        if AT_ONCE // raw.rows_at_once > LONG:
            con.execute("SET threads = 1")
        lock(con, [each.path for each in raw.files])
        yield raw


def _put(path: Path, target: Path, quote: str) -> dict[str, str]:
    """A file under its plain name, and what is wrong with columns that are left out."""
    ending, unusable = path.suffix.lower(), {}
    if ending in (".csv", ".tsv"):
        schema, batches = delimited_batches(path, "\t" if ending == ".tsv" else ",", quote)
    elif ending in (".jsonl", ".ndjson"):
        schema, unusable, batches = json_batches(path)
    else:
        metadata = pq.read_metadata(path)
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        if all(group.total_byte_size <= GROUP for group in groups):
            target.symlink_to(path.resolve())
            return {}
        schema, batches = _pieces(path, AT_ONCE)
    with pq.ParquetWriter(target, schema, compression="lz4", use_dictionary=False) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return unusable


def _pieces(path: Path, size: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """A Parquet file in batches of about ``size`` bytes."""
    file = pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    row = max(group.total_byte_size // max(1, group.num_rows) for group in groups)
    rows = max(1, min(BATCH_ROWS, size // max(1, row)))
    return file.schema_arrow, file.iter_batches(batch_size=rows, use_threads=False)
