"""What it means when a disk or a file system refuses, in words that help.

Files are written by Python, Arrow, DuckDB, SQLite, and by Rust in safetensors and tokenizers. Each
says in its own way that a disk is full, and most say it in a text only.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from muppet_dag.errors import MuppetError

#: What ``flock`` answers where locks are not to be had.
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
NO_LOCKS_ADVICE = (
    "this file system has no locks, and they keep two processes from making the same thing at "
    "once; name a folder of another file system, or mount it with locks"
)
#: The disk, or what a user may have of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)
_ADVICE = {
    errno.ENOSPC: "make room there, or name another folder in {setting}",
    errno.EDQUOT: "your quota is used up: make room there, or name another folder in {setting}",
    errno.EROFS: "name a folder that can be written to in {setting}",
    errno.EACCES: "see to its permissions, or name another folder in {setting}",
    errno.EPERM: "see to its permissions, or name another folder in {setting}",
    errno.EFBIG: "files so large are not allowed there (see ulimit -f, and the kind of the file "
    "system); name another folder in {setting}",
    errno.EIO: "the disk or the connection to it fails; name another folder in {setting}",
    errno.ESTALE: "the network file system has lost it; mount it again",
    errno.EEXIST: "something of another kind is in its place; move that away",
    errno.ENOTDIR: "a file is in the place of a folder; move it away",
    errno.EISDIR: "a folder is in the place of a file; move it away",
    errno.ENAMETOOLONG: "the path is too long; name a shorter folder in {setting}",
    errno.EMFILE: "this process may open no more files; raise ulimit -n",
    errno.ENFILE: "this machine may open no more files",
}
#: Bytes below which a disk is full.
_LEAST = 65_536
#: Numbers that are looked for in a text. The others' words may be about anything.
_SPOKEN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_DATABASES = {
    "database or disk is full": errno.ENOSPC,
    "max_temp_directory_size": errno.ENOSPC,  # DuckDB, which takes what is free for the limit
    "attempt to write a readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "unable to open database file": errno.EACCES,
}


@contextmanager
def plain_errors(
    place: Path, doing: str | Callable[[], str] = "", setting: str = "MUPPET_HOME"
) -> Iterator[None]:
    """Raise what a disk refuses as a MuppetError that names file, room and what to do.

    ``place`` is where the block writes, ``doing`` what it does ("making shards/boolq"), and
    ``setting`` the variable that chooses the place. All other errors pass.
    """
    try:
        yield
    except MuppetError:
        raise
    except Exception as error:
        text = doing() if callable(doing) else doing
        if problem := explained(error, place, text, setting):
            raise problem from error
        raise


def explained(
    error: BaseException, place: Path, doing: str = "", setting: str = "MUPPET_HOME"
) -> MuppetError | None:
    """What a disk's refusal means, or None if this error is of another kind."""
    refusal = next(((each, n) for each in _chain(error) if (n := _number(each))), None)
    if refusal is None:
        return None
    cause, number = refusal
    path = _path(cause) or place
    if not path.is_relative_to(place) and path.is_relative_to(tempfile.gettempdir()):
        setting = "TMPDIR"
    if number == errno.EIO and _free(path) < _LEAST:  # SQLite says so when it cannot grow its index
        number = errno.ENOSPC
    about = f"{path}: {os.strerror(number)}" + (f" while {doing}" if doing else "")
    left = f" ({room(path)} left there)" if number in FULL else ""
    return MuppetError(f"{about}{left}; {_ADVICE[number].format(setting=setting)}")


def lack(place: Path, doing: str = "") -> MuppetError | None:
    """What to say if a disk is full, where a process could not even write down why it ended."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place))
    return explained(full, place, doing) if _free(place) < _LEAST else None


def _path(error: BaseException) -> Path | None:
    """The file that an error is about, as far as it says."""
    name = getattr(error, "filename", None)
    if isinstance(name, str | bytes):
        return Path(os.fsdecode(name))
    quoted = re.search(r"""["'](/[^"']+)["']""", str(error))
    return Path(quoted[1]) if quoted else None


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or what a user may have of it."""
    return any(_number(each) in FULL for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those it was raised from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__  # not the context: that may be anything that was handled before


def _number(error: BaseException) -> int | None:
    """The number of a disk's refusal, from wherever it stands."""
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return error.errno
    text = str(error)
    if said := re.search(r"(?:os error|\[errno) (\d+)", text, re.IGNORECASE):
        return int(said[1]) if int(said[1]) in _ADVICE else None
    known = {**{os.strerror(number): number for number in _SPOKEN}, **_DATABASES}
    return next((number for words, number in known.items() if words in text), None)


def room(path: Path) -> str:
    """How much room is left on the file system of a path, which need not be there."""
    disk = os.statvfs(_there(path))
    size = readable(disk.f_blocks * disk.f_frsize)
    if disk.f_files and not disk.f_favail:
        return f"{readable(_free(path))}, but none of {disk.f_files:,} inodes: files are too many,"
    return f"{readable(_free(path))} of {size}"


def _free(path: Path) -> int:
    disk = os.statvfs(_there(path))
    return disk.f_bavail * disk.f_frsize


def _there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def readable(size: float) -> str:
    """A number of bytes in words: ``1.5 GB``."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        del units[0]
    return (
        f"{size:.0f} {units[0]}" if size >= 100 or size == int(size) else f"{size:.1f} {units[0]}"
    )
