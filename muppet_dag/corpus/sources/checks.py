"""What every source checks: names before they become paths, files before they are read."""

from __future__ import annotations

import re
from pathlib import Path

from muppet_dag import hub
from muppet_dag.catalogue.task import HubDataset
from muppet_dag.corpus.sources import folders
from muppet_dag.errors import BadConfig, SourceError
from muppet_dag.files import regular

_CONFIG = re.compile(r"\w[\w.+\- ]*")


def check_names(dataset: HubDataset) -> None:
    """Names become paths, so they are checked first; nothing may climb out of a folder."""
    if not hub.is_repository(dataset.repository):
        raise BadConfig(f"repository {dataset.repository!r}: expected namespace/name")
    if not _CONFIG.fullmatch(dataset.config) or ".." in dataset.config:
        raise BadConfig(f"{dataset.repository}: config {dataset.config!r} is not a plain name")


def read_text(path: Path) -> str:
    """A small file's text; what is no UTF-8 in it does not matter."""
    try:
        return regular(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def check_parquet(path: Path, name: str) -> None:
    """SourceError, opening with ``name``, for a file that is no parquet."""
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, pyarrow.ArrowException) as error:
        if folders.is_pointer(path):
            raise SourceError(
                f"{name}: a git-lfs pointer and not the file itself; run `git lfs pull` in the "
                "clone"
            ) from error
        raise SourceError(f"{name}: not a readable parquet file ({error})") from error
