"""What has a file's name and is no file is never opened: the error names it and says what it is."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muppet_dag import files, recipes
from muppet_dag.catalogue.own import load
from muppet_dag.catalogue.task import hub
from muppet_dag.corpus.sources import DirectorySource, FileSource
from muppet_dag.errors import MuppetError
from muppet_dag.model.base import base_version

COLA = hub("glue-makers/tiny", "cola")
SHARD = "glue-makers/tiny/cola/train-00000-of-00001.parquet"


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 characters
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)
    os.chdir(here)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "a named pipe"),
    "socket": (_socket, "a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "folder": (Path.mkdir, "a folder"),
    "loop": (lambda path: path.symlink_to(path.name), "symbolic link"),
    "dangling": (lambda path: path.symlink_to("nowhere"), "No such file"),
}


@pytest.fixture(params=ODD)
def odd(request) -> tuple[Callable[[Path], object], str]:
    return ODD[request.param]


@contextmanager
def soon(seconds: int = 10) -> Iterator[None]:
    """Ends what hangs in the kernel, where a test's own time limit would end all tests."""

    def late(*_) -> None:
        raise TimeoutError("it was opened and waited for")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_what_is_no_file_is_not_hashed(odd, tmp_path):
    make, kind = odd
    make(tmp_path / "x")
    with soon(), pytest.raises(OSError, match=kind):
        files.file_hash(tmp_path / "x")


@pytest.mark.parametrize("name", [SHARD, "glue-makers/tiny/README.md"])
def test_in_a_folder_of_datasets(odd, tmp_path, name):
    make, kind = odd
    if make is Path.mkdir and name.endswith(".md"):
        return  # a folder may be called anything
    path = tmp_path / SHARD
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"]}), path)
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    source = DirectorySource(tmp_path)
    with soon(), pytest.raises(MuppetError, match=kind) as told:
        source.fetch(COLA, source.version(COLA))
    assert Path(name).name in str(told.value)


def test_in_a_folder_that_is_named_too_deep(odd, tmp_path):
    make, _ = odd
    make(tmp_path / "README.md")
    with soon(), pytest.raises(MuppetError, match="no folder"):
        DirectorySource(tmp_path).version(COLA)


@pytest.mark.parametrize("name", ["mine.toml", "mine.py"])
def test_in_a_folder_of_tasks(odd, tmp_path, name):
    make, kind = odd
    make(tmp_path / name)
    with soon():
        (problem,) = load(tmp_path).problems.values()
    assert kind in problem and name in problem


def test_as_the_file_of_a_task(odd, tmp_path):
    make, kind = odd
    (tmp_path / "rows.csv").write_text("text,label\na,1\n")
    (tmp_path / "mine.toml").write_text(
        '[mine]\nfamily = "classification"\nfiles = { train = "rows.csv" }\n'
        'text = "text"\nlabel = "label"\nclasses = ["a", "b"]\n'
    )
    (_, task), *_ = load(tmp_path).tasks.values()
    (tmp_path / "rows.csv").unlink()
    make(tmp_path / "rows.csv")
    with soon(), pytest.raises(MuppetError, match=kind) as told:
        FileSource().version(task.dataset)
    assert "rows.csv" in str(told.value)
    with soon():
        (problem,) = load(tmp_path).problems.values()
    assert (kind in problem or "there is no file" in problem) and "rows.csv" in problem


def test_in_a_folder_of_recipes(odd, tmp_path):
    make, kind = odd
    make(tmp_path / "half.toml")
    with soon():
        problem = recipes.read_all(tmp_path)[1]["half"]
    assert kind in problem and "half.toml" in problem


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_in_a_model_folder(odd, tmp_path, name):
    make, kind = odd
    if make is Path.mkdir and name.startswith("token"):
        return  # the vocabulary may be in other files
    for each in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / each).write_text("{}")
    (tmp_path / name).unlink()
    make(tmp_path / name)
    with soon(), pytest.raises(MuppetError, match=f"{kind}|no {name}") as told:
        base_version(str(tmp_path))
    assert name in str(told.value)
