"""From an artefact down to every dataset's commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from muppet_dag.errors import MuppetError
from muppet_dag.store.manifest import Manifest, is_artefact
from muppet_dag.store.store import Store


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
        manifest = store.open(name, version).manifest if is_artefact(name) else None
        yield depth, name, version, manifest
        if manifest:
            below = sorted(manifest.inputs.items(), reverse=True)
            stack += [(depth + 1, name, version) for name, version in below]
