"""Where raw rows come from: the Hugging Face Hub, or a directory laid out like it.

Both forms are one ``Source``: resolve a dataset to a version, then get the local files of that
version. Only ``*.parquet`` is ever fetched: no loading script, no remote code, no pickle. A user's
own files are a third form, beside whichever of the two is in use.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from muppet_dag import hub, settings
from muppet_dag.catalogue.task import CONVERTED, Dataset, Files, HubDataset
from muppet_dag.corpus import folders
from muppet_dag.corpus.card import CARDS
from muppet_dag.corpus.layout import choose, match, scope
from muppet_dag.errors import BadConfig, SourceError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling
    from tenacity import RetryCallState

T = TypeVar("T")

__all__ = ["DirectorySource", "FileSource", "HubSource", "Source", "match", "open_source"]

_CONFIG = re.compile(r"\w[\w.+\- ]*")
_ENDPOINT = re.compile(r"https?://\w")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MANY = 50_000  # beyond this many files the Hub's file list is not complete
_INSTEAD = "a folder of parquet files as the source"


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


class HubSource:
    """Datasets on the Hub. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HOME`` count as in its library.

    ``attempts`` tries are made of what may pass (no connection, 429, 5xx, a broken download), the
    first ``first_wait`` seconds apart, then doubling up to ``longest_wait``, with jitter; where
    the Hub says how long to wait, that long. Inside one download the library resumes on its own.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        cache: Path | None = None,
        attempts: int = 5,
        first_wait: float = 1.0,
        longest_wait: float = 300.0,
    ) -> None:
        self.endpoint, self.cache, self.attempts = endpoint, cache, attempts
        self.first_wait, self.longest_wait = first_wait, longest_wait

    def label(self, dataset: HubDataset) -> str:
        return f"hub:{dataset.repository}"

    def version(self, dataset: HubDataset) -> str:
        """The commit that ``dataset.revision`` points to now. Always asks the Hub, never a cache.

        SourceError if it cannot be reached, or has no such repository or revision.
        """
        sha = self._info(dataset, dataset.revision).sha or ""
        if not _COMMIT.fullmatch(sha):
            raise SourceError(f"{self.label(dataset)}: no commit in the answer. Check HF_ENDPOINT")
        return sha

    def fetch(self, dataset: HubDataset, version: str) -> dict[str, list[Path]]:
        """Download (or find in the cache) the parquet files of ``dataset`` at commit ``version``.

        Every file is checked against the size and hash that the Hub lists, and opened, before any
        is returned. SourceError if a file is missing or broken, or if none of the splits is there.
        """
        if not _COMMIT.fullmatch(version):
            raise BadConfig(f"{self.label(dataset)}: {version!r} is not a commit (40 hex digits)")
        # The file list comes with the commit rather than from the tree endpoint, because the
        # library retries that one by itself (waits would multiply) and without a timeout.
        listed = self._info(dataset, version, listed=True).siblings
        files = {file.rfilename: file for file in listed}
        where = f"{self.label(dataset)} at {version}"
        if len(files) >= _MANY:
            raise SourceError(f"{where}: more than {_MANY} files, the list may be cut short")
        get = partial(self._get, dataset, version)
        # The Hub's own conversion lies where no README says anything of it.
        known = () if dataset.revision == CONVERTED else CARDS
        cards = {name: _text(get(files[name])) for name in known if name in files}
        chosen = choose(list(files), dataset, where, cards)
        return {split: [get(files[name]) for name in names] for split, names in chosen.items()}

    def _info(self, dataset: HubDataset, revision: str, listed: bool = False):
        from huggingface_hub import HfApi

        _check_names(dataset)
        ask = partial(HfApi(endpoint=self.endpoint).dataset_info, dataset.repository)
        ask = partial(ask, revision=revision, files_metadata=listed, timeout=hub.ASK_S)
        return self._try(ask, dataset, revision)

    def _get(self, dataset: HubDataset, version: str, file: RepoSibling) -> Path:
        from huggingface_hub import hf_hub_download

        def once() -> Path:
            path = Path(
                hf_hub_download(
                    dataset.repository,
                    file.rfilename,
                    repo_type="dataset",
                    revision=version,
                    endpoint=self.endpoint,
                    cache_dir=self.cache,
                )
            )
            name = f"{self.label(dataset)} at {version}, file {file.rfilename}"
            try:
                if damage := hub.broken(path, file):
                    text = f"{name}: broken copy, {damage}; removed, try again"
                    raise SourceError(text, retry=True)
                if path.suffix == ".parquet":
                    _check_parquet(path, name)
            except SourceError:
                hub.forget(path)
                raise
            return path

        return self._try(once, dataset, version)

    def _try(self, action: Callable[[], T], dataset: HubDataset, revision: str) -> T:
        from huggingface_hub import HfApi
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.attempts), wait=self._wait,
            retry=retry_if_exception(hub.try_again), reraise=True,
        )  # fmt: skip
        try:
            return retrying(action)
        except hub.troubles() as error:
            page = f"{HfApi(endpoint=self.endpoint).endpoint}/datasets/{dataset.repository}"
            where = f"{self.label(dataset)}, revision {revision}"
            raise hub.explained(error, page, where, _INSTEAD) from error

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter

        first, longest = self.first_wait, self.longest_wait
        backoff = wait_exponential_jitter(first, longest, jitter=first)
        asked = hub.asked_wait(state.outcome.exception())
        return min(longest, max(asked, backoff(state)))


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
                size, digest = path.stat().st_size, hub.file_hash(path)
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
            _check_parquet(files[name], f"{label}, file {files[name]}")
        return {split: [files[name] for name in names] for split, names in chosen.items()}

    def _files(self, dataset: HubDataset) -> tuple[dict[str, Path], dict[str, str]]:
        """Every file of a repository by its name there, and the texts of its README."""
        _check_names(dataset)
        home = folders.home(self.root, dataset, self.label(dataset))
        files = folders.files(home)
        return files, {name: _text(files[name]) for name in CARDS if name in files}


class FileSource:
    """A user's own files, where they lie. The version is a hash of what they hold."""

    def label(self, dataset: Files) -> str:
        return f"file:{dataset.repository.removeprefix('file/')}"

    def version(self, dataset: Files) -> str:
        """``sha256-`` and 32 hex digits. SourceError if a file is missing or unreadable."""
        total = hashlib.sha256()
        for split, path in map(self._at, dataset.paths.items()):
            try:
                size, digest = path.stat().st_size, hub.file_hash(path)
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
                _check_parquet(path, str(path))
        return {split: [path] for split, path in files.items()}

    @staticmethod
    def _at(item: tuple[str, str]) -> tuple[str, Path]:
        return item[0], Path(item[1])


def _check_names(dataset: HubDataset) -> None:
    """Names become paths, so they are checked first; nothing may climb out of a folder."""
    if not hub.is_repository(dataset.repository):
        raise BadConfig(f"repository {dataset.repository!r}: expected namespace/name")
    if not _CONFIG.fullmatch(dataset.config) or ".." in dataset.config:
        raise BadConfig(f"{dataset.repository}: config {dataset.config!r} is not a plain name")


def _text(path: Path) -> str:
    """A small file's text; what is no UTF-8 in it does not matter."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


def _check_parquet(path: Path, name: str) -> None:
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
