"""DuckDB as all of the corpus uses it: bounded memory, spilling to a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb


#: Each thread holds rows of its own, and documents are large: with more, memory would depend on the
#: machine. What the rows then go through is one thread's work, and tasks run side by side.
THREADS = 2


@contextmanager
def database(memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own, empty and in memory; what goes beyond ``memory`` (``"1GB"``) goes to a
    temporary folder (under ``TMPDIR``), which is removed in the end."""
    import duckdb

    with TemporaryDirectory(prefix="muppet-dag-") as spill:
        config = {
            "memory_limit": memory,
            "threads": THREADS,
            "temp_directory": spill,
            "autoinstall_known_extensions": "false",
        }
        with duckdb.connect(config=config) as con:
            con.execute("SET enable_progress_bar = false")
            yield con
