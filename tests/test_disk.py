"""Full, read-only and failing disks are told in a line: which file, how much room, what to do."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest
import small_disk

from muppet_dag import disk
from muppet_dag.errors import BadConfig
from muppet_dag.settings import writable

#: Lets everybody who writes files here run out of room. argv: disk.
WRITERS = """
import sqlite3, sys
from pathlib import Path
import duckdb, numpy as np, pyarrow as pa, pyarrow.parquet as pq
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models
from muppet_dag import disk
from muppet_dag.errors import MuppetError

place = Path(sys.argv[1])
path, numbers = place / "a", np.random.default_rng(1).random(100_000)
table = pa.table({"a": numbers})

def arrow():
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)

def sqlite():
    with sqlite3.connect(path) as con:
        con.execute("CREATE TABLE t (a)")
        con.executemany("INSERT INTO t VALUES (?)", [(str(n) * 9,) for n in range(20_000)])

def tokenizers():
    words = {str(n): n for n in range(50_000)}
    Tokenizer(models.WordPiece(words, unk_token="0")).save(str(path))

for write in (
    arrow, sqlite, tokenizers,
    lambda: path.write_bytes(bytes(500_000)),
    lambda: pq.write_table(table, path),
    lambda: duckdb.sql(f"COPY (SELECT random() FROM range(99999)) TO '{path}' (FORMAT csv)"),
    lambda: np.save(path, numbers),
    lambda: save_file({"a": numbers}, path),
):
    try:
        with disk.plain_errors(place, "making shards/a"):
            write()
        print("it fits")
    except MuppetError as error:
        print(error)
    for each in place.iterdir():
        each.unlink()
"""


def test_whoever_runs_out_of_room_it_is_told_alike(tmp_path: Path) -> None:
    place = tmp_path / "disk"
    said = small_disk.run(WRITERS, place, size=1 << 17).splitlines()
    assert len(said) == 8
    for line in said:
        assert line.startswith(str(place))
        assert "No space left on device while making shards/a (" in line
        assert line.endswith(" left there); make room there, or name another folder in MUPPET_HOME")


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number), "/data/x") for number in disk._ADVICE),
        sqlite3.OperationalError("attempt to write a readonly database"),
        RuntimeError("I/O error: Read-only file system (os error 30)"),
    ],
)
def test_every_refusal_comes_with_a_place_and_something_to_do(error: Exception) -> None:
    text = str(disk.explained(error, Path("/store"), "making a/b"))
    assert text.startswith(("/data/x: ", "/store: ")) and " while making a/b" in text
    assert len(text.split("; ", 1)[1]) > 10 and "{" not in text


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ConnectionResetError(errno.ECONNRESET, "reset"), OSError("no number"),
     FileNotFoundError(errno.ENOENT, "no such file"), ValueError("row 28: os error 3")],
)  # fmt: skip
def test_other_errors_pass_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, disk.plain_errors(tmp_path):
        raise error
    assert raised.value is error


def test_what_was_being_handled_before_is_no_cause(tmp_path: Path) -> None:
    def fails() -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            raise KeyError("a bug")  # noqa: B904

    with pytest.raises(KeyError), disk.plain_errors(tmp_path):
        fails()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e6, "2 MB"), (340e6, "340 MB"),
     (1.25e9, "1.2 GB"), (3e12, "3 TB"), (4e15, "4000 TB")],
)  # fmt: skip
def test_sizes_are_readable(size: float, text: str) -> None:
    assert disk.readable(size) == text


# --- Real disks -----------------------------------------------------------------------------------

#: Builds an artefact with more and more room until it fits, and makes sure that all failures before
#: were told plainly and left nothing behind. argv: disk.
STORE = """
import sys
from pathlib import Path
import pyarrow as pa
import small_disk
from muppet_dag.errors import MuppetError
from muppet_dag.store import Store, verify

disk = Path(sys.argv[1])

def make(folder, key):
    table = pa.table({"a": range(20_000)})
    with pa.ipc.new_file(str(folder / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "b.json").write_text("x" * 30_000)
    (folder / "c.bin").write_bytes(bytes(50_000))
    return {}

for room in range(0, 400_000, 16_000):
    small_disk.resize(disk, room)
    store = Store(disk / "home")
    try:
        made = store.build("things/a", make, code_version="1", inputs={})
        assert verify(made.path) and store.require("things/a").version == made.version
        print("made with", room)
        break
    except MuppetError as error:
        text = str(error)
        assert str(disk) in text and "No space left on device" in text, text
        assert " left" in text and "another folder" in text, text
        assert not list(disk.glob("home/.building/*")), text
        for manifest in disk.glob("home/things/a/*/manifest.json"):
            verify(manifest.parent)  # in its place, and only the pointers did not fit
        print("refused")
"""


def test_on_disks_of_many_sizes_a_build_is_whole_or_says_what_it_lacks(tmp_path: Path) -> None:
    said = small_disk.run(STORE, tmp_path / "disk").split("\n")
    assert said.count("refused") > 8 and said[-2].startswith("made with")


#: Reads JSON lines that take more room in TMPDIR than there is. argv: disk, file.
COPY = """
import sys
from pathlib import Path
from muppet_dag.corpus.database import database
from muppet_dag.corpus.raw.readers import opened
from muppet_dag.errors import MuppetError

try:
    with opened([Path(sys.argv[2])]):
        pass
except MuppetError as error:
    print(type(error).__name__, error)
try:
    with database("80MB") as con:
        con.sql("CREATE TABLE t AS SELECT range AS n, repeat(range::TEXT, 8) AS s "
                "FROM range(1_500_000) ORDER BY hash(n)")
except MuppetError as error:
    print(type(error).__name__, error)
"""


def test_a_full_temporary_folder_is_named_and_is_no_fault_of_the_data(tmp_path: Path) -> None:
    lines, place = tmp_path / "a.jsonl", tmp_path / "disk"
    lines.write_text("".join(f'{{"text": "{os.urandom(500).hex()}"}}\n' for _ in range(2_000)))
    said = small_disk.run(COPY, place, lines, size=1 << 20, TMPDIR=str(place)).splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith(f"MuppetError {place}: No space left on device while reading files")
        assert line.endswith("make room there, or name another folder in TMPDIR")


READ_ONLY = """
import sys
from muppet_dag.errors import MuppetError
from muppet_dag.store import Store
try:
    Store(sys.argv[1]).build("a/b", lambda *_: {}, code_version="1", inputs={})
except MuppetError as error:
    print(error)
"""


def test_a_read_only_home_is_refused_by_name(tmp_path: Path) -> None:
    said = small_disk.run(READ_ONLY, tmp_path / "disk", options="ro")
    assert said.startswith(f"MUPPET_HOME='{tmp_path}/disk': cannot be written to (Read-only file")


@pytest.mark.parametrize("home", ["file", "file/below", "~nosuchuser/x", "loop", "a\0b", "n" * 300])
def test_a_home_that_cannot_be_is_refused_by_name(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    value = home if home.startswith("~") else str(tmp_path / home)
    with pytest.raises(BadConfig, match="MUPPET_HOME="):
        writable(value)
