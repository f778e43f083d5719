"""What users set: folders, numbers and TOML files, each checked before anything runs.

The messages name the variable (or whatever said it), what was found and what to do. Everything
here raises BadConfig and nothing else.
"""

from __future__ import annotations

import codecs
import fcntl
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from muppet_dag import disk
from muppet_dag.errors import BadConfig
from muppet_dag.files import regular

HOME = "~/.muppet-dag"
#: What DuckDB may take for a task's rows, and the least that is enough for it to run.
MEMORY, LEAST_MEMORY = "1GB", 10_000_000
_ON, _OFF = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", re.IGNORECASE | re.ASCII)


def path(value: str | Path, name: str) -> Path:
    """A path with ``~`` taken for the user's folder."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise BadConfig(f"{name}={str(value)!r}: there is no such user ({error})") from error


def folder(value: str | Path, name: str) -> Path:
    """A folder that is there, as an absolute path: Dagster's processes start elsewhere."""
    place = path(value, name)
    try:
        if place.is_dir():
            next(place.iterdir(), None)
            return place.resolve()
    except OSError as error:
        raise BadConfig(f"{name}={str(value)!r}: cannot be read ({error.strerror})") from error
    problem = "this is a file, expected a folder" if place.exists() else "no such folder"
    raise BadConfig(f"{name}={str(value)!r}: {problem}")


def writable(value: str | Path, name: str = "MUPPET_HOME") -> Path:
    """A folder that files can be written to and locked, made if it is not there, as an absolute
    path."""
    place = path(value, name)
    try:
        place = place.resolve()
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"x")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadConfig(f"{name}={str(value)!r}: {_refusal(error, place)}") from error
    return place


def _refusal(error: Exception, place: Path) -> str:
    """Why a folder cannot be used, and what to do."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in its way, expected a folder"
    number, problem = getattr(error, "errno", None), getattr(error, "strerror", None) or error
    if number in disk.NO_LOCKS:
        return f"{problem}: {disk.NO_LOCKS_ADVICE}"
    if number in disk.FULL:
        problem = f"{problem}, {disk.room(place)} left"
    return f"cannot be written to ({problem}); name another folder"


def count(value: str, name: str) -> int:
    """A whole number, 1 or more."""
    text = value.strip()
    if not (text.isascii() and text.isdigit() and int(text)):
        raise BadConfig(f"{name}={value!r}: expected a whole number, 1 or more")
    return int(text)


def switch(value: str, name: str) -> bool:
    """On or off."""
    text = value.strip().lower()
    if text not in _ON | _OFF:
        raise BadConfig(f"{name}={value!r}: expected on or off")
    return text in _ON


def memory(value: str, name: str) -> str:
    """An amount of memory as DuckDB takes it, ``4GB`` or ``512MiB``; 10MB or more."""
    match = _MEMORY.fullmatch(value.strip())
    unit = 1024 if match and match[3] else 1000
    if not match or float(match[1]) * unit ** ("KMGT".index(match[2].upper()) + 1) < LEAST_MEMORY:
        raise BadConfig(f"{name}={value!r}: expected an amount such as 4GB, 10MB or more")
    return match[0]


def tables(file: Path) -> dict[str, Any]:
    """A TOML file: UTF-8, with or without a byte-order mark."""
    try:
        data = regular(file).read_bytes()
    except OSError as error:
        raise BadConfig(f"{file}: cannot be read ({error.strerror})") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadConfig(f"{file}: this is UTF-16; save it as UTF-8")
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadConfig(f"{file}: line {line} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{file}: {error}") from error
