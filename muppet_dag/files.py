"""Files that are there whole or not at all, hashed once, and locked while they are made."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path

log = logging.getLogger(__name__)


def write_atomic(path: Path, text: str) -> None:
    """Replace a small file so that readers, also after a power cut, see the old or the new one.

    Threads and processes may write the same file at once; the last one stays.
    """
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(
        prefix=f".{path.name}.", suffix=".tmp", dir=path.parent
    )
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o666 & ~umask())
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def make_durable(folder: Path) -> None:
    """Bring every file and every name below a folder to the disk, before it is renamed: a rename
    that survives a power cut must not name files that did not. Files get the mode of the umask."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(at, name)
            os.chmod(path, 0o666 & ~umask())
            _sync(path)
        _sync(Path(at))


def rename(source: Path, target: Path) -> None:
    """Rename what has been made durable, and make the new name last."""
    os.rename(source, target)
    _sync(target.parent)


def umask() -> int:
    """The process's umask, from Linux's own account of it where there is one: setting it to read
    it is seen by other threads."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("Umask:")[1].split()[0], 8)
    except (OSError, IndexError, ValueError):
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


def file_hash(path: Path) -> str:
    """SHA-256 of a file; computed anew only when its size or modification time has changed."""
    at = path.stat()
    return _file_hash(path, at.st_size, at.st_mtime_ns)


@lru_cache(maxsize=4096)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def lock(path: Path, purpose: str, tell: Callable[[str], None] = log.warning) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; the kernel frees it with the process.

    ``purpose`` is what the holder does ("trains in FOLDER"). Who has to wait tells so once, with
    the holder's process, machine, purpose and since when.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path, mode=0o666 & ~umask(), poll_interval=0.2)
    try:
        held.acquire(timeout=0)
    except Timeout:
        tell(f"waiting for {holder(path)}")
        held.acquire()
    try:
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        about = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": now}
        path.write_text(json.dumps(about))
        yield
    finally:
        held.release()


def holder(path: Path) -> str:
    """Who holds a lock file, in words."""
    try:
        about = json.loads(path.read_text())
        return "process {pid} on {host}, which {purpose} since {since}".format(**about)
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process, which holds {path}"


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
