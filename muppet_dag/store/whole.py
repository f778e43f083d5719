"""Whether an artefact still is what was written: its files are hashed once before they are used.

What was found is remembered beside the versions, in ``verified/<content hash>``, by each file's
size and times, for later processes too: a store of fifty tasks is not read again for each run.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from muppet_dag.files import file_hash, file_state, make_folder, write_atomic
from muppet_dag.store.manifest import Manifest


def damage(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the first file that is not as it was written, or None."""
    memory = folder.parent / "verified" / folder.name
    before, now = _remembered(memory), {}
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        now[name] = list(file_state(path))
        if now[name][0] != expected["bytes"]:
            return f"{path} has {now[name][0]:,} bytes, and {expected['bytes']:,} were written"
        if before.get(name) != now[name] and file_hash(path) != expected["sha256"]:
            return f"{path} is damaged: its bytes are not those that were written"
    if now != before:
        with suppress(OSError):  # of a store that can only be read, or is full: hashed again then
            make_folder(memory.parent)
            write_atomic(memory, json.dumps(now))
    return None


def _remembered(memory: Path) -> dict[str, list[int]]:
    """Size and times of the files when they were last hashed; a broken memory is none."""
    try:
        states = json.loads(memory.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return states if isinstance(states, dict) else {}
