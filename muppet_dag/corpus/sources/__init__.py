"""Where raw rows come from: the Hugging Face Hub, or a directory laid out like it.

Both forms are one ``Source``: resolve a dataset to a version, then get the local files of that
version. Only ``*.parquet`` is ever fetched: no loading script, no remote code, no pickle. A user's
own files are a third form, beside whichever of the two is in use.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

from muppet_dag import settings
from muppet_dag.catalogue.task import Dataset
from muppet_dag.corpus.sources.layout import match
from muppet_dag.corpus.sources.local import DirectorySource, FileSource
from muppet_dag.corpus.sources.remote import HubSource
from muppet_dag.errors import BadConfig

__all__ = ["DirectorySource", "FileSource", "HubSource", "Source", "match", "open_source"]

_ENDPOINT = re.compile(r"https?://\w")


class Source(Protocol):
    """Resolves datasets to versions and versions to files."""

    def version(self, dataset: Dataset) -> str:
        """The commit a revision points to now, or a content hash (``sha256-…``)."""

    def fetch(self, dataset: Dataset, version: str) -> dict[str, list[Path]]:
        """Local parquet files of each raw split that exists, in order, exactly at ``version``."""

    def label(self, dataset: Dataset) -> str:
        """How manifests name the origin: ``hub:aps/super_glue``."""


def open_source(spec: str) -> Source:
    """Open ``"hub"``, ``"hub:ENDPOINT"`` or a directory path. BadConfig if there is none."""
    if spec == "hub":
        _check_hub()
        return HubSource()
    if spec.startswith("hub:"):
        if not _ENDPOINT.match(spec[4:]):
            raise BadConfig(f"source {spec!r}: expected hub:http(s)://HOST, or just hub")
        return HubSource(spec[4:])
    root = settings.path(spec, "source")
    if not spec or not root.is_dir():
        problem = "a file and no folder" if spec and root.exists() else "no such folder"
        raise BadConfig(
            f"source {spec!r}: {problem}. Expected hub, hub:ENDPOINT, or a folder that holds "
            "namespace/name/config/split-00000-of-00001.parquet or clones as namespace/name"
        )
    return DirectorySource(settings.folder(root, "source"))


def _check_hub() -> None:
    """The Hub library's own variables, of which it would complain in its own words and late."""
    endpoint, home = os.environ.get("HF_ENDPOINT"), os.environ.get("HF_HOME")
    if endpoint and not _ENDPOINT.match(endpoint):
        raise BadConfig(f"HF_ENDPOINT={endpoint!r}: expected http(s)://HOST")
    if home:
        settings.writable(home, "HF_HOME")
