"""The two pointers beside the versions of an artefact.

``made/<inputs hash>`` is what these inputs gave, so that the same inputs find the artefact instead
of re-making it; ``current`` is what was made, or found again, last.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from muppet_dag.errors import MuppetError
from muppet_dag.files import make_folder, write_atomic
from muppet_dag.store.manifest import MANIFEST, Manifest

log = logging.getLogger(__name__)


def point(folder: Path, key: str, manifest: Manifest) -> None:
    """Let both pointers name this version."""
    pointer = json.dumps({"content_hash": manifest.content_hash, "inputs": dict(manifest.inputs)})
    make_folder(folder / "made")
    write_atomic(folder / "made" / key, pointer)
    write_atomic(folder / "current", pointer)


def pointed(pointer: Path) -> str:
    """The version that a pointer names. MuppetError if it is no pointer."""
    try:
        version = json.loads(pointer.read_bytes())["content_hash"]
        if not re.fullmatch(r"[\w\-][\w.\-]*", version):
            raise ValueError(version)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise MuppetError(f"{pointer}: not the pointer of an artefact") from error
    return version


def current(folder: Path) -> str | None:
    """The version that was made last, None if none was. A broken ``current`` is read from the
    pointer that was written just before it; MuppetError if that is broken too."""
    pointer = folder / "current"
    if not pointer.exists():
        return None
    try:
        return pointed(pointer)
    except MuppetError as error:
        try:
            version = pointed(_newest(folder / "made"))
        except (OSError, ValueError, MuppetError):
            raise error from None
        log.warning("%s; the last one made is used, %s", error, version[:12])
        return version


def candidates(folder: Path, key: str) -> Iterator[Path]:
    """The versions that these inputs may have given: first what the pointer names, then, where it
    is lost or broken, those whose manifest says so."""
    pointer, named = folder / "made" / key, None
    if pointer.exists():
        try:
            named = folder / pointed(pointer)
            yield named
        except MuppetError as error:
            log.warning("%s; it is written anew", error)
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        try:
            if path.parent != named and Manifest.read(path.parent).key == key:
                yield path.parent
        except MuppetError:
            continue  # not one of them, as far as can be known


def _newest(folder: Path) -> Path:
    """The pointer that was written last; ValueError if there is none."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return max(paths, key=lambda path: path.stat().st_mtime_ns)
