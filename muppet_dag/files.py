"""Files that are there whole or not at all, hashed once, and locked while they are made."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag import disk
from muppet_dag.errors import MuppetError

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip
#: Seconds of waiting for a lock that are not worth a word.
_BRIEF_S = 0.5
#: Longer than any file system's step of time (FAT: 2 s).
_STEP_NS = 3 * 10**9


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
    _sync_names(path.parent)


def read_json(path: Path, kind: type = dict) -> Any:
    """What a small JSON file holds; None if there is no such file, or it is damaged (empty, cut
    short, zeros, not UTF-8, not a ``kind``: what a power cut leaves), which a warning says."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if isinstance(value, kind):
            return value
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    log.warning("%s is damaged and is taken as not there", path)
    return None


def make_durable(folder: Path) -> None:
    """Bring every file and every name below a folder to the disk, before it is renamed: a rename
    that survives a power cut must not name files that did not. Files get the mode of the umask."""
    for at, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(at, name)
            os.chmod(path, 0o666 & ~umask())
            sync(path)
        _sync_names(Path(at))


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and make their names last; nothing if it is there."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_names(path.parent)


def rename(source: Path, target: Path) -> None:
    """Rename what has been made durable, and make the new name last."""
    os.rename(source, target)
    _sync_names(target.parent)


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


def regular(path: Path) -> Path:
    """The path, if it may be opened: a pipe would be waited for without end, a device never ends.
    OSError that says what it is instead, as for a path where nothing is."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return path
    kind = _KINDS.get(stat.S_IFMT(mode), "no file")
    raise OSError(errno.EINVAL, f"this is {kind}, expected a file", str(path))


def file_hash(path: Path) -> str:
    """SHA-256 of a file; computed anew only when its size or one of its times has changed. OSError
    for what is no file (`regular`).

    That of a file that was written just now is not remembered: file systems count time in steps,
    and a second write within one leaves the same times.
    """
    regular(path)
    state = file_state(path)
    fresh = time.time_ns() - max(state[1:]) < _STEP_NS
    return (_hash if fresh else _remembered)(path, state)


def file_state(path: Path) -> tuple[int, int, int]:
    """What changes whenever a file is written to: its size in bytes, and when its content and its
    entry were changed, in nanoseconds. Programs can set back the first time, not the second."""
    at = path.stat()
    return at.st_size, at.st_mtime_ns, at.st_ctime_ns


def _hash(path: Path, _state: tuple[int, int, int]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_remembered = lru_cache(maxsize=4096)(_hash)


def _doze() -> None:
    time.sleep(0.1)


@contextmanager
def lock(
    path: Path,
    purpose: str,
    notify: Callable[[str], None] = log.warning,
    pause: Callable[[], None] = _doze,
) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; the kernel frees it with the process.

    ``purpose`` is what the holder does ("trains in FOLDER"). Who has to wait calls ``notify`` once,
    with the holder's process, machine, purpose and since when, and ``pause`` between two tries.
    MuppetError if the file system has no locks.
    """
    held = _lock(path)
    if not _acquired(held, _BRIEF_S):  # as long as a new holder may take to say who it is
        notify(f"waiting for {holder(path)}")
        while not _acquired(held, 0):
            pause()
    try:
        _sign(path, purpose)
        yield
    finally:
        held.release()


@contextmanager
def lock_if_free(path: Path, purpose: str) -> Iterator[bool]:
    """Hold a lock file if nobody does, without a word; whether it is held. It is removed then, if
    it is still there: who waits for it sees that and locks a new one."""
    held = _lock(path)
    if not _acquired(held, 0):
        yield False
        return
    try:
        _sign(path, purpose)
        yield True
    finally:
        path.unlink(missing_ok=True)
        held.release()


def _sign(path: Path, purpose: str) -> None:
    """Note in a lock file who holds it."""
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    about = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": now}
    path.write_text(json.dumps(about))


def _lock(path: Path) -> FileLock:
    from filelock import FileLock

    # A lock that is the existence of a file would outlive a killed process.
    return FileLock(path, mode=0o666 & ~umask(), poll_interval=0.1, fallback_to_soft=False)


def _acquired(held: FileLock, seconds: float) -> bool:
    from filelock import Timeout

    try:
        held.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        if error.errno in disk.NO_LOCKS:
            place = f"{held.lock_file}: {error.strerror}"
            raise MuppetError(f"{place}: {disk.NO_LOCKS_ADVICE}") from error
        raise
    return True


def holder(path: Path) -> str:
    """Who holds a lock file, in words."""
    try:
        about = json.loads(path.read_text())
        return "process {pid} on {host}, which {purpose} since {since}".format(**about)
    except (OSError, ValueError, KeyError, TypeError):
        return f"another process, which holds {path}"


def _sync_names(folder: Path) -> None:
    """Make the names in a folder last, where its file system can: some network ones cannot."""
    try:
        sync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP):
            raise


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
