"""Artefacts and what they say of themselves.

An artefact is a folder ``<store>/<name>/<content hash>/`` with a ``manifest.json`` beside its
files, written last. It is built in a temporary folder and renamed into place, so a reader sees
all of it or none. Two small pointers lie beside: ``made/<inputs hash>`` (what these inputs gave,
so that the same inputs find the artefact instead of re-making it) and ``current``.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muppet_dag import settings
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.files import lock, make_durable, rename, write_atomic
from muppet_dag.store.manifest import (
    MANIFEST,
    Manifest,
    describe,
    digest,
    file_names,
    is_artefact,
    verify,
)


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
        if not is_artefact(name) or ".." in name:
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
            files = {path: describe(scratch / path) for path in file_names(scratch)}
            counted = {p: file["sha256"] for p, file in files.items() if p not in volatile}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            # Artefacts below are read through this one (a model by way of its mixture), so their
            # versions count; a dataset's commit does not: equal rows stop the wave there.
            below = {name: version for name, version in inputs.items() if is_artefact(name)}
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
