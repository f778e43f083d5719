"""Files are there whole or not at all, last, and are locked while they are made."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.files import file_hash, lock, lock_if_free, make_durable, write_atomic
from muppet_dag.settings import writable
from muppet_dag.store import Store

#: Writes a file again and again until it is stopped; argv: path, its own number.
WRITER = """
import sys
from pathlib import Path
from muppet_dag.files import write_atomic
print("ready", flush=True)
for _ in range(150):
    write_atomic(Path(sys.argv[1]), sys.argv[2] * 5000)
"""
#: Holds a lock until its input ends; argv: path.
HOLDER = """
import sys
from pathlib import Path
from muppet_dag.files import lock
with lock(Path(sys.argv[1]), "holds it"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code: str, *arguments: object) -> subprocess.Popen:
    """A process of its own that has said its first word."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline()
    return process


def test_threads_and_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    processes = [start(WRITER, path, number) for number in (1, 2)]
    with ThreadPoolExecutor(8) as threads:
        # Each write that fails raises here.
        list(threads.map(lambda n: write_atomic(path, str(n % 10) * 5000), range(300)))
    for process in processes:
        assert process.communicate()[1] == "" and process.returncode == 0
    text = path.read_text()
    assert len(text) == 5000 and len(set(text)) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_made_durable_has_the_mode_of_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "below").mkdir()
        private = tmp_path / "below" / "weights"
        os.close(os.open(private, os.O_CREAT | os.O_WRONLY, 0o600))
        make_durable(tmp_path)
        write_atomic(tmp_path / "text", "x")
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (private, tmp_path / "text")}
    assert modes == {0o666 & ~mask}


def test_a_hash_is_taken_anew_when_only_the_modification_time_was_set_back(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    at = path.stat()
    first = file_hash(path)
    path.write_bytes(b"two")
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert path.stat().st_mtime_ns == at.st_mtime_ns and file_hash(path) != first


def test_who_waits_for_a_lock_says_for_whom_and_gets_it_from_the_dead(tmp_path: Path) -> None:
    path, told = tmp_path / "a.lock", []
    holder = start(HOLDER, path)
    threading.Timer(1.0, holder.kill).start()
    began = time.monotonic()
    with lock(path, "waits", told.append):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    holder.communicate()
    assert 0.9 < time.monotonic() - began < 5
    assert len(told) == 1 and f"waiting for process {holder.pid} on " in told[0]
    assert ", which holds it since 20" in told[0]


def test_only_a_free_lock_is_taken_in_passing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    holder = start(HOLDER, path)
    with lock_if_free(path, "passes") as held:
        assert not held
    holder.communicate("")
    with lock_if_free(path, "passes") as held:
        assert held
    assert not path.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    held = lock(tmp_path / "a.lock", "waits")
    with pytest.raises(MuppetError, match=r"a\.lock: .*has no locks.*mount it with locks"), held:
        pass
    with pytest.raises(BadConfig, match=r"MUPPET_HOME=.*has no locks.*mount it with locks"):
        writable(tmp_path)
    with pytest.raises(MuppetError, match="has no locks"):
        Store(tmp_path).build("a/b", lambda *_: {}, code_version="1", inputs={})
