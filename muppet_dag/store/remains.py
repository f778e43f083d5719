"""What killed builds leave behind is cleared away in one place, and never from under a live one.

In the store's folder lie ``.building/KEY`` (half an artefact), ``.locks/KEY.lock``, ``work/KEY``
(checkpoints), and beside each artefact's versions the temporary files of its pointers.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from contextlib import suppress
from pathlib import Path

from muppet_dag.files import lock_if_free, write_atomic

log = logging.getLogger(__name__)

#: Whose work a folder of work is.
OWNER = ".build.json"
#: Seconds after which a temporary file is nobody's: it takes a moment to write.
_TEMPORARY_S = 3600.0
#: Seconds that checkpoints stay when the same artefact was made in another way since.
_SUPERSEDED_S = 7 * 24 * 3600.0


def own(work: Path, name: str) -> None:
    """Note which artefact the work in a folder is for."""
    if not (work / OWNER).is_file():
        write_atomic(work / OWNER, json.dumps({"name": name}))


def clear(root: Path) -> None:
    """Remove what killed builds left behind.

    A build is alive while its lock is held, and the kernel frees that with the process. Of dead
    ones half-made artefacts go, and checkpoints of an artefact that has been made. Checkpoints of
    an unfinished one stay, unless the artefact has been made otherwise and nobody has gone on with
    them for a week.
    """
    keys: set[str] = {path.name for kind in (".building", "work") for path in _within(root / kind)}
    keys |= {path.name.removesuffix(".lock") for path in _within(root / ".locks")}
    for key in sorted(keys):
        with suppress(PermissionError):  # another user's
            _clear_build(root, key)


def clear_temporary(folder: Path) -> None:
    """Remove temporary files of pointers whose writers were killed."""
    for path in (*folder.glob(".current.*"), *(folder / "made").glob(".*")):
        try:
            if time.time() - path.stat().st_mtime > _TEMPORARY_S:
                path.unlink()
        except FileNotFoundError:
            continue


def _clear_build(root: Path, key: str) -> None:
    with lock_if_free(root / ".locks" / f"{key}.lock", "clears away a killed build") as dead:
        if dead:
            shutil.rmtree(root / ".building" / key, ignore_errors=True)
            _clear_work(root, key)


def _clear_work(root: Path, key: str) -> None:
    work = root / "work" / key
    try:
        folder = root / json.loads((work / OWNER).read_bytes())["name"]
    except (OSError, ValueError, TypeError, KeyError):
        return  # not there, or not known to be a build's
    if (folder / "made" / key).is_file():
        shutil.rmtree(work, ignore_errors=True)
    elif _is_superseded(work, folder / "current"):
        log.warning("%s: removed, %s has been made otherwise since", work, folder)
        shutil.rmtree(work, ignore_errors=True)


def _is_superseded(work: Path, pointer: Path) -> bool:
    """Whether an artefact was made after this work was last written to, a week ago or more."""
    touched = max(path.stat().st_mtime for path in (work, *work.rglob("*")))
    made = pointer.stat().st_mtime if pointer.is_file() else 0.0
    return made > touched and time.time() - made > _SUPERSEDED_S


def _within(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
