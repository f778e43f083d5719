"""Artefacts and what they say of themselves.

An artefact is a folder ``<store>/<name>/<content hash>/`` with a ``manifest.json`` beside its
files, written last. It is built in a temporary folder and renamed into place, so a reader sees
all of it or none.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from muppet_dag import disk, settings
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.files import lock, make_durable, make_folder, rename
from muppet_dag.store import pointers, remains
from muppet_dag.store.manifest import (
    Manifest,
    describe,
    digest,
    file_names,
    is_artefact,
    verify,
)
from muppet_dag.store.whole import damage

log = logging.getLogger(__name__)
#: Folders of stores that this process has cleared.
_CLEARED: set[Path] = set()

#: Fills an empty folder, given the hash of all inputs too, and returns the facts.
Make = Callable[[Path, str], Mapping[str, Any]]


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
        make: Make,
        *,
        code_version: str,
        inputs: Mapping[str, str],
        parameters: Mapping[str, Any] | None = None,
        volatile: tuple[str, ...] = (),
        reads: Iterable[Artefact] = (),
    ) -> Artefact:
        """Return the artefact these inputs give, making it if it is not there yet.

        ``make(folder, key)`` fills an empty temporary folder and returns the facts; ``key`` is the
        hash of name, code version, inputs and parameters, fit to name scratch space that should
        outlive a crash. The content hash is that of the files and of the artefacts among the
        inputs; files named in ``volatile`` (timings, logs) are checksummed but do not count. A
        second process that builds the same thing waits for the first and then finds its result.

        The artefacts among the inputs, and those below them that ``make`` ``reads``, are checked to
        be what was written before anything is made of them. MuppetError if one is not, or if the
        disk is full or refuses; other errors of ``make`` pass.
        """
        wanted = Manifest(name, "", code_version, dict(inputs), dict(parameters or {}), {})
        folder, root = self.folder(name), settings.writable(self.root)
        with disk.plain_errors(root, f"making {name}"):
            self._clear()
            with lock(root / ".locks" / f"{wanted.key}.lock", f"makes {name}"):
                artefact = self._existing(wanted)
                artefact = artefact or self._make(wanted, make, volatile, reads)
                pointers.point(folder, wanted.key, artefact.manifest)
                shutil.rmtree(root / "work" / wanted.key, ignore_errors=True)
            remains.clear_temporary(folder)
        return artefact

    def current(self, name: str) -> Artefact | None:
        """The artefact of that name that was made (or found again) last; None if none was.

        MuppetError if it is damaged; making it again mends that.
        """
        try:
            version = pointers.current(self.folder(name))
        except MuppetError as error:
            raise MuppetError(f"{error}; materialize {name} again, which writes it anew") from error
        return self.open(name, version) if version else None

    def require(self, name: str) -> Artefact:
        """``current``, or an error that says what to make first."""
        artefact = self.current(name)
        if artefact is None:
            raise MuppetError(f"{name} has not been made yet; materialize it first")
        return artefact

    def open(self, name: str, version: str) -> Artefact:
        """One exact version. MuppetError if it is not there, or its manifest is damaged."""
        path = self.folder(name) / version
        try:
            manifest = Manifest.read(path)
            if (manifest.name, manifest.content_hash) != (name, version):
                raise MuppetError(f"{path}: its manifest is that of another artefact")
        except MuppetError as error:
            raise MuppetError(f"{error}; materialize {name} again, which replaces it") from error
        return Artefact(path, manifest)

    def workspace(self, key: str, name: str) -> Path:
        """Scratch space of an artefact that outlives a crash (checkpoints); ``key`` as ``build``
        hands it out.

        It is removed when the build has succeeded.
        """
        path = self.root / "work" / key
        make_folder(path)
        remains.own(path, name)
        return path

    def _clear(self) -> None:
        """See to the folders of builds, and to what killed ones left there, once a process."""
        for name in (".locks", ".building"):
            make_folder(self.root / name)
        if self.root not in _CLEARED:
            _CLEARED.add(self.root)
            remains.clear(self.root)

    def _existing(self, wanted: Manifest) -> Artefact | None:
        """What these inputs gave before, if all its files still are as they were written."""
        for path in pointers.candidates(self.folder(wanted.name), wanted.key):
            try:
                artefact = self.open(wanted.name, path.name)
                problem = damage(path, artefact.manifest)
            except MuppetError as error:
                problem = str(error.__cause__ or error)
            if not problem:
                return artefact
            log.warning("%s; %s is made again", problem, wanted.name)
        return None

    def _make(
        self, wanted: Manifest, make: Make, volatile: tuple[str, ...], reads: Iterable[Artefact]
    ) -> Artefact:
        inputs = (self.open(name, version) for name, version in wanted.below.items())
        for artefact in itertools.chain(inputs, reads):
            _require_whole(artefact)
        scratch = self._scratch(wanted.key)
        try:
            with disk.plain_errors(scratch, lambda: _progress(wanted.name, scratch)):
                facts = make(scratch, wanted.key)
            manifest = _finished(wanted, scratch, facts, volatile)
            path = self._commit(scratch, manifest)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)  # also to give back the room it took
        return Artefact(path, Manifest.read(path), fresh=True)

    def _scratch(self, key: str) -> Path:
        """An empty folder on the store's own disk; a killed build's leftover is removed."""
        path = self.root / ".building" / key
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def _commit(self, scratch: Path, manifest: Manifest) -> Path:
        """Rename into place; what stands there already is kept if it is whole."""
        manifest.write(scratch)
        folder = self.folder(manifest.name)
        path = folder / manifest.content_hash
        make_folder(folder)
        if path.exists():
            try:
                verify(path)
                return path
            except MuppetError:
                shutil.rmtree(path)
        make_durable(scratch)
        rename(scratch, path)
        return path


def _finished(
    wanted: Manifest, folder: Path, facts: Mapping[str, Any], volatile: tuple[str, ...]
) -> Manifest:
    """The manifest of what was made in a folder."""
    files = {path: describe(folder / path) for path in file_names(folder)}
    counted = {p: file["sha256"] for p, file in files.items() if p not in volatile}
    # Artefacts below are read through this one (a model by way of its mixture), so their versions
    # count; a dataset's commit does not: equal rows stop the wave there.
    content = digest({"files": counted, "inputs": wanted.below})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return replace(wanted, content_hash=content, files=files, facts=facts, created=now)


def _require_whole(artefact: Artefact) -> None:
    """Raises MuppetError where going on would make something else of it, silently."""
    if problem := damage(artefact.path, artefact.manifest):
        name = artefact.manifest.name
        raise MuppetError(
            f"{name}: {problem}. Nothing is made of it: materialize {name} again, which replaces "
            "it, and then go on"
        )


def _progress(name: str, folder: Path) -> str:
    size = sum((folder / file).stat().st_size for file in file_names(folder))
    return f"making {name}, of which {disk.readable(size)} were written"
