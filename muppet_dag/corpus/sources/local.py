"""Datasets in folders of this machine, and a user's own files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from muppet_dag.catalogue.task import Files, HubDataset
from muppet_dag.corpus.sources import folders
from muppet_dag.corpus.sources.card import CARDS
from muppet_dag.corpus.sources.checks import check_names, check_parquet, read_text
from muppet_dag.corpus.sources.layout import choose, scope
from muppet_dag.errors import SourceError
from muppet_dag.files import file_hash


class DirectorySource:
    """Parquet files of datasets below one folder, each in ``root/namespace/name``: a folder for
    each config with files named as on the Hub, or a clone of the repository as it is. A cache of
    the Hub's library (``datasets--namespace--name``) will do too.

    The version is a hash of the names and bytes of one config, and of the README where that says
    which files they are; modification times do not count.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def label(self, dataset: HubDataset) -> str:
        return f"directory:{dataset.repository}/{dataset.config}"

    def version(self, dataset: HubDataset) -> str:
        """``sha256-`` and 32 hex digits. SourceError if the folder is missing or unreadable."""
        total, (files, cards) = hashlib.sha256(), self._files(dataset)
        for name in scope(list(files), dataset, cards, self.label(dataset)):
            path = files[name]
            try:
                size, digest = path.stat().st_size, file_hash(path)
            except OSError as error:
                why = error.strerror
                raise SourceError(f"{self.label(dataset)}: cannot read {path}: {why}") from error
            total.update(f"{name}\0{size}\0{digest}\n".encode())
        return f"sha256-{total.hexdigest()[:32]}"

    def fetch(self, dataset: HubDataset, version: str) -> dict[str, list[Path]]:
        """The files of each raw split. SourceError if they are no longer those of ``version``."""
        label = self.label(dataset)
        if (now := self.version(dataset)) != version:
            raise SourceError(
                f"{label}: the files changed, from {version} to {now}; start again", retry=True
            )
        files, cards = self._files(dataset)
        chosen = choose(list(files), dataset, label, cards)
        for name in (name for names in chosen.values() for name in names):
            check_parquet(files[name], f"{label}, file {files[name]}")
        return {split: [files[name] for name in names] for split, names in chosen.items()}

    def _files(self, dataset: HubDataset) -> tuple[dict[str, Path], dict[str, str]]:
        """Every file of a repository by its name there, and the texts of its README."""
        check_names(dataset)
        home = folders.home(self.root, dataset, self.label(dataset))
        files = folders.files(home)
        return files, {name: read_text(files[name]) for name in CARDS if name in files}


class FileSource:
    """A user's own files, where they lie. The version is a hash of what they hold."""

    def label(self, dataset: Files) -> str:
        return f"file:{dataset.repository.removeprefix('file/')}"

    def version(self, dataset: Files) -> str:
        """``sha256-`` and 32 hex digits. SourceError if a file is missing or unreadable."""
        total = hashlib.sha256()
        for split, path in map(self._at, dataset.paths.items()):
            try:
                size, digest = path.stat().st_size, file_hash(path)
            except OSError as error:
                raise SourceError(f"cannot read {path}: {error.strerror}") from error
            total.update(f"{split}{path.suffix.lower()}\0{size}\0{digest}\n".encode())
        return f"sha256-{total.hexdigest()[:32]}"

    def fetch(self, dataset: Files, version: str) -> dict[str, list[Path]]:
        """The file of each raw split. SourceError if they are no longer those of ``version``."""
        if (now := self.version(dataset)) != version:
            raise SourceError(
                f"{self.label(dataset)}: the files changed, from {version} to {now}; start again",
                retry=True,
            )
        files = dict(map(self._at, dataset.paths.items()))
        for path in files.values():
            if path.suffix.lower() == ".parquet":
                check_parquet(path, str(path))
        return {split: [path] for split, path in files.items()}

    @staticmethod
    def _at(item: tuple[str, str]) -> tuple[str, Path]:
        return item[0], Path(item[1])
