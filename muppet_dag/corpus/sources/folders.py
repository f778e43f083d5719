"""Datasets in folders: where a repository lies below the folder that was named, and its files."""

from __future__ import annotations

import os
from pathlib import Path

from muppet_dag.catalogue.task import HubDataset
from muppet_dag.errors import Absent, SourceError
from muppet_dag.files import regular

_POINTER = b"version https://git-lfs"


def home(root: Path, dataset: HubDataset, label: str) -> Path:
    """The folder of a dataset's repository. Absent, opening with ``label``, if it is not there;
    the message says which folder to name where it can be told."""
    folder = root / dataset.repository
    if folder.is_dir():
        return folder
    cached = root / f"datasets--{dataset.repository.replace('/', '--')}"
    if cached.is_dir():
        return _snapshot(cached, dataset, label)
    raise Absent(f"{label}: no folder {folder}. {_advice(root, dataset.repository)}")


def files(folder: Path) -> dict[str, Path]:
    """Every file below a folder by its name there, in order; what is hidden is left out (``.git``),
    but for ``.huggingface.yaml``. Links to folders are followed, once.

    What only looks like a file by its name (a pipe, a link to nothing, a folder called
    ``train.parquet``) is in it: whoever opens it is told what it is.
    """
    paths: list[Path] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = [name for name in folders if not name.startswith(".") and real not in seen]
        seen.add(real)
        visible = [n for n in names if not n.startswith(".") or n == ".huggingface.yaml"]
        visible += [name for name in folders if name.endswith(".parquet")]
        paths += [Path(place, name) for name in visible]
    return {path.relative_to(folder).as_posix(): path for path in sorted(paths)}


def is_pointer(path: Path) -> bool:
    """Whether git-lfs has left a note in the place of the file."""
    try:
        with regular(path).open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def _snapshot(cached: Path, dataset: HubDataset, label: str) -> Path:
    """The snapshot of the revision in a cache of the Hub's library, or the only one there is."""
    snapshots = sorted(p for p in (cached / "snapshots").glob("*") if p.is_dir())
    ref = cached / "refs" / dataset.revision
    commit = ref.read_text().strip() if ref.is_file() else dataset.revision
    for snapshot in snapshots:
        if snapshot.name == commit:
            return snapshot
    if len(snapshots) == 1 and not ref.is_file():
        return snapshots[0]
    raise SourceError(
        f"{label}: {cached} holds no snapshot of revision {dataset.revision!r}, but "
        f"{', '.join(p.name for p in snapshots) or 'none'}"
    )


def _is_card(path: Path) -> bool:
    """Whether a README opens with the header of a data set; any folder may have another one."""
    try:
        with regular(path).open("rb") as file:
            return file.read(4).startswith(b"---")
    except OSError:
        return False


def _advice(root: Path, repository: str) -> str:
    """What the folder is that was named, if not the one above all namespaces."""
    parts, names = repository.split("/"), root.resolve().parts
    for depth in range(len(parts), 0, -1):
        if names[-depth:] == tuple(parts[:depth]):
            above = root.resolve().parents[depth - 1]
            return f"{root} is {'/'.join(parts[:depth])} itself: name the folder {above}"
    if _is_card(root / "README.md") or any(root.glob("*.parquet")):
        return (
            f"{root} looks like a repository itself: put it at FOLDER/{repository} and name FOLDER"
        )
    there = ", ".join(sorted(p.name for p in (root / parts[0]).glob("*/"))) or "nothing"
    return (
        f"Expected config/split-00000-of-00001.parquet files there, or a clone of the repository; "
        f"{root / parts[0]} holds: {there}"
    )
