"""Artefacts and what they say of themselves.

An artefact is a folder ``<store>/<name>/<content hash>/`` with a ``manifest.json`` beside its
files, written last. It is built in a temporary folder and renamed into place, so a reader sees
all of it or none. Two small pointers lie beside: ``made/<inputs hash>`` (what these inputs gave,
so that the same inputs find the artefact instead of re-making it) and ``current``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muppet_dag import settings
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.files import lock, make_durable, rename, write_atomic

MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.\-]*(/[a-z0-9_][a-z0-9_.\-]*)+")


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and the exact versions it was made from.

    ``name`` is the artefact's place in the store (``shards/boolq``). ``inputs`` maps the name of
    each input to its version: another artefact's content hash, or for a leaf such as
    ``hub:aps/super_glue`` the commit. ``parameters`` are the settings that decided the content,
    ``facts`` what was found while making it (row counts, drops, metrics).
    """

    name: str
    content_hash: str
    code_version: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    format: int = 1

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.json``; a folder without one is not an artefact."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise MuppetError(f"{folder}: no {MANIFEST}, so this is not a finished artefact")
        try:
            manifest = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise MuppetError(f"{path}: not the manifest of an artefact ({error})") from error
        tables = (manifest.inputs, manifest.parameters, manifest.files, manifest.facts)
        if not all(isinstance(table, dict) for table in tables):
            raise MuppetError(f"{path}: not the manifest of an artefact")
        return manifest

    def write(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` durably."""
        write_atomic(Path(folder) / MANIFEST, json.dumps(asdict(self), indent=1, sort_keys=True))


@dataclass(frozen=True)
class Artefact:
    """A finished artefact on disk. ``fresh`` tells whether this call made it or found it."""

    path: Path
    manifest: Manifest
    fresh: bool = False

    @property
    def version(self) -> str:
        """The content hash, which is also Dagster's data version."""
        return self.manifest.content_hash

    @property
    def facts(self) -> Mapping[str, Any]:
        """What was found while making it."""
        return self.manifest.facts


class Store:
    """All artefacts under one folder (``MUPPET_HOME``)."""

    def __init__(self, root: Path | str) -> None:
        self.root = settings.path(root, "MUPPET_HOME").resolve()

    def folder(self, name: str) -> Path:
        """The folder of all versions of an artefact; the name is checked before it is a path."""
        if not _NAME.fullmatch(name) or ".." in name:
            raise BadConfig(f"artefact name {name!r}: expected parts of a-z 0-9 _ . - joined by /")
        return self.root / name

    def build(
        self,
        name: str,
        make: Callable[[Path, str], Mapping[str, Any]],
        *,
        code_version: str,
        inputs: Mapping[str, str],
        parameters: Mapping[str, Any] | None = None,
        volatile: tuple[str, ...] = (),
    ) -> Artefact:
        """Return the artefact these inputs give, making it if it is not there yet.

        ``make(folder, key)`` fills an empty temporary folder and returns the facts; ``key`` is the
        hash of name, code version, inputs and parameters, fit to name scratch space that should
        outlive a crash. The content hash is that of the files and of the artefacts among the
        inputs; files named in ``volatile`` (timings, logs) are checksummed but do not count. A
        second process that builds the same thing waits for the first and then finds its result.
        """
        parameters = dict(parameters or {})
        key = digest({"name": name, "code": code_version, "in": inputs, "parameters": parameters})
        folder = self.folder(name)
        (settings.writable(self.root) / ".locks").mkdir(exist_ok=True)
        with _room(self.root), lock(self.root / ".locks" / f"{key}.lock", f"makes {name}"):
            if artefact := self._existing(folder, key):
                self._point(folder, key, artefact.manifest)
                return artefact
            scratch = self._scratch(key)
            facts = make(scratch, key)
            files = {path: _describe(scratch / path) for path in _files(scratch)}
            counted = {p: file["sha256"] for p, file in files.items() if p not in volatile}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            # Artefacts below are read through this one (a model by way of its mixture), so their
            # versions count; a dataset's commit does not: equal rows stop the wave there.
            below = {name: version for name, version in inputs.items() if _NAME.fullmatch(name)}
            content = digest({"files": counted, "inputs": below})
            manifest = Manifest(
                name, content, code_version, dict(inputs), parameters, files, facts, now
            )
            path = self._commit(scratch, folder, manifest)
            self._point(folder, key, manifest)
            shutil.rmtree(self.root / "work" / key, ignore_errors=True)
        return Artefact(path, Manifest.read(path), fresh=True)

    def current(self, name: str) -> Artefact | None:
        """The artefact of that name that was made (or found again) last, if any."""
        pointer = self.folder(name) / "current"
        if not pointer.is_file():
            return None
        path = self.folder(name) / pointed(pointer)
        return Artefact(path, Manifest.read(path))

    def require(self, name: str) -> Artefact:
        """``current``, or an error that says what to make first."""
        artefact = self.current(name)
        if artefact is None:
            raise MuppetError(f"{name} has not been made yet; materialize it first")
        return artefact

    def open(self, name: str, version: str) -> Artefact:
        """One exact version."""
        path = self.folder(name) / version
        return Artefact(path, Manifest.read(path))

    def workspace(self, key: str) -> Path:
        """Scratch space that outlives a crash (checkpoints); ``key`` as ``build`` hands it out.

        It is removed when the build has succeeded.
        """
        path = self.root / "work" / key
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _scratch(self, key: str) -> Path:
        """An empty folder on the store's own disk; a killed build's leftover is removed."""
        path = self.root / ".building" / key
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def _existing(self, folder: Path, key: str) -> Artefact | None:
        """What these inputs gave before, if all its files still stand as they were written."""
        pointer = folder / "made" / key
        if not pointer.is_file():
            return None
        path = folder / pointed(pointer)
        if not (path / MANIFEST).is_file():
            return None
        manifest = Manifest.read(path)
        whole = all(
            (path / name).is_file() and (path / name).stat().st_size == file["bytes"]
            for name, file in manifest.files.items()
        )
        return Artefact(path, manifest) if whole else None

    def _commit(self, scratch: Path, folder: Path, manifest: Manifest) -> Path:
        """Rename into place; what stands there already is kept if it is whole."""
        manifest.write(scratch)
        path = folder / manifest.content_hash
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            try:
                verify(path)
                shutil.rmtree(scratch)
                return path
            except MuppetError:
                shutil.rmtree(path)
        make_durable(scratch)
        rename(scratch, path)
        return path

    def _point(self, folder: Path, key: str, manifest: Manifest) -> None:
        pointer = json.dumps(
            {"content_hash": manifest.content_hash, "inputs": dict(manifest.inputs)}
        )
        (folder / "made").mkdir(exist_ok=True)
        write_atomic(folder / "made" / key, pointer)
        write_atomic(folder / "current", pointer)


def pointed(pointer: Path) -> str:
    """The version that a pointer names. MuppetError if it is no pointer."""
    try:
        version = json.loads(pointer.read_text(encoding="utf-8"))["content_hash"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise MuppetError(f"{pointer}: not the pointer of an artefact; delete it") from error
    if not isinstance(version, str) or not re.fullmatch(r"[\w.\-]+", version):
        raise MuppetError(f"{pointer}: not the pointer of an artefact; delete it")
    return version


def verify(folder: Path) -> Manifest:
    """Check every file of an artefact against its manifest; the error names the first bad one."""
    manifest = Manifest.read(folder)
    for name, expected in manifest.files.items():
        path = Path(folder) / name
        if not path.is_file():
            raise MuppetError(f"{folder}: {name} is missing; delete the folder and materialize")
        if _describe(path) != expected:
            raise MuppetError(f"{path}: bytes differ from the manifest; delete and materialize")
    return manifest


def lineage(folder: Path) -> Iterator[tuple[int, str, str, Manifest | None]]:
    """Walk from an artefact down to its leaves, depth first.

    Yields (depth, name, version, manifest); the manifest is None for a leaf such as a dataset's
    commit. Needs nothing but the files: neither Dagster nor W&B has to be up.
    """
    start = Manifest.read(folder)
    above = Path(folder).resolve().parents
    depth = len(start.name.split("/"))
    if depth >= len(above):
        raise MuppetError(f"{folder}: it does not lie in a store, so its inputs cannot be found")
    store = Store(above[depth])
    stack: list[tuple[int, str, str]] = [(0, start.name, start.content_hash)]
    while stack:
        depth, name, version = stack.pop()
        manifest = store.open(name, version).manifest if _NAME.fullmatch(name) else None
        yield depth, name, version, manifest
        if manifest:
            below = sorted(manifest.inputs.items(), reverse=True)
            stack += [(depth + 1, name, version) for name, version in below]


def digest(value: Any) -> str:
    """A 128-bit hash of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _room(root: Path) -> Iterator[None]:
    """A disk that is full or read-only is a matter of settings, whoever of us writes to it."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise MuppetError(
            f"{root}: {error.strerror}; make room there, or name another folder in MUPPET_HOME"
        ) from error


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _describe(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
