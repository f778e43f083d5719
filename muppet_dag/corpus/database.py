"""DuckDB as all of the corpus uses it: bounded memory, spilling to a folder of its own."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from muppet_dag import disk, settings

if TYPE_CHECKING:
    import duckdb


#: Each thread holds rows of its own, and documents are large: with more, memory would depend on the
#: machine. What the rows then go through is one thread's work, and tasks run side by side.
THREADS = 2
#: The setting of how much memory a database may take.
MEMORY = "MUPPET_MEMORY"


@contextmanager
def database(memory: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own, empty and in memory; what goes beyond ``memory`` (``"2GB"``; if not
    given, ``MUPPET_MEMORY`` or 1 GB) goes to a temporary folder (under ``TMPDIR``), which is
    removed in the end."""
    import duckdb

    with TemporaryDirectory(prefix="muppet-dag-") as spill:
        config = {
            "memory_limit": memory
            or settings.memory(os.environ.get(MEMORY) or settings.MEMORY, MEMORY),
            "threads": THREADS,
            "temp_directory": spill,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        with duckdb.connect(config=config) as con:
            con.execute("SET enable_progress_bar = false")
            try:
                yield con
            except duckdb.Error as error:
                require_room(error)
                raise


def require_room(error: Exception) -> None:
    """Raises MuppetError if an error in reading files is one of the temporary folder, which is full
    of their copies or of what was spilt; it would be told as one of the data otherwise."""
    if disk.is_full(error):
        raise disk.explained(error, Path(gettempdir()), "reading files", "TMPDIR") from error


def lock(con: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """From here on SQL reads these files and nothing else of the host: no other file, no network,
    no extension, no setting. There is no way back."""
    # A pattern that means a file, and the file that it means, are both looked up.
    names = [name for path in files for name in (str(path), glob.escape(str(path)))]
    con.execute(f"SET allowed_paths = [{', '.join(map(quote, names))}]")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")


def listed(paths: Sequence[Path]) -> str:
    """A list of files as SQL. Their names are names, not patterns."""
    return f"[{', '.join(quote(glob.escape(str(path))) for path in paths)}]"


def quote(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A quoted identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
