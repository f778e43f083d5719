"""Where raw rows come from: the Hugging Face Hub, or a directory laid out like it.

Both forms are one ``Source``: resolve a dataset to a version, then get the local parquet files of
that version. Only ``*.parquet`` is ever fetched: no loading script, no remote code, no pickle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from muppet_dag.catalogue.task import CONVERTED, HubDataset
from muppet_dag.errors import BadConfig, SourceError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling
    from tenacity import RetryCallState

T = TypeVar("T")

_REPOSITORY = re.compile(r"\w[\w.\-]*(/\w[\w.\-]*)?")
_CONFIG = re.compile(r"\w[\w.+\- ]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = r"(?:-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?)?\.parquet"  # older pushes end in a fingerprint
_ASK_S = 30.0  # seconds to wait for an answer of the Hub's API
_MANY = 50_000  # beyond this many files the Hub's file list is not complete


class Source(Protocol):
    """Resolves datasets to versions and versions to files."""

    def version(self, dataset: HubDataset) -> str:
        """The commit a revision points to now, or a content hash (``sha256-…``)."""

    def fetch(self, dataset: HubDataset, version: str) -> dict[str, list[Path]]:
        """Local parquet files of each raw split that exists, in order, exactly at ``version``."""

    def label(self, dataset: HubDataset) -> str:
        """How manifests name the origin: ``hub:aps/super_glue``."""


def open_source(spec: str) -> Source:
    """Open ``"hub"``, ``"hub:ENDPOINT"`` or a directory path. BadConfig if there is none."""
    if spec == "hub":
        return HubSource()
    if spec.startswith("hub:"):
        if not re.match(r"https?://\w", spec[4:]):
            raise BadConfig(f"source {spec!r}: expected hub:http(s)://HOST, or just hub")
        return HubSource(spec[4:])
    root = Path(spec).expanduser()
    if not spec or not root.is_dir():
        raise BadConfig(
            f"source {spec!r}: no such folder. Expected hub, hub:ENDPOINT, or a folder that holds "
            "namespace/name/config/split-00000-of-00001.parquet"
        )
    return DirectorySource(root)


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
        is returned. SourceError if a file is missing or broken, or if there is no train split.
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
        chosen = _choose(list(files), dataset, where)
        get = partial(self._get, dataset, version)
        return {split: [get(files[name]) for name in names] for split, names in chosen.items()}

    def _info(self, dataset: HubDataset, revision: str, listed: bool = False):
        from huggingface_hub import HfApi

        _check_names(dataset)
        ask = partial(HfApi(endpoint=self.endpoint).dataset_info, dataset.repository)
        ask = partial(ask, revision=revision, files_metadata=listed, timeout=_ASK_S)
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
                _check_bytes(path, file, name)
                _check_parquet(path, name)
            except SourceError:
                _forget(path)
                raise
            return path

        return self._try(once, dataset, version)

    def _try(self, action: Callable[[], T], dataset: HubDataset, revision: str) -> T:
        from huggingface_hub import HfApi
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.attempts), wait=self._wait,
            retry=retry_if_exception(_try_again), reraise=True,
        )  # fmt: skip
        try:
            return retrying(action)
        except _troubles() as error:
            page = f"{HfApi(endpoint=self.endpoint).endpoint}/datasets/{dataset.repository}"
            words = f"{self.label(dataset)}, revision {revision}: {_explain(error, page)}"
            raise SourceError(words, retry=_may_pass(error)) from error

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter

        first, longest = self.first_wait, self.longest_wait
        backoff = wait_exponential_jitter(first, longest, jitter=first)
        asked = _asked_wait(state.outcome.exception())
        return min(longest, max(asked, backoff(state)))


class DirectorySource:
    """Parquet files under ``root/namespace/name/config/``, named as on the Hub.

    The version is a hash of the names and bytes of one config; modification times do not count.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def label(self, dataset: HubDataset) -> str:
        return f"directory:{dataset.repository}/{dataset.config}"

    def version(self, dataset: HubDataset) -> str:
        """``sha256-`` and 32 hex digits. SourceError if the folder is missing or unreadable."""
        total = hashlib.sha256()
        for name, path in self._files(dataset).items():
            try:
                at = path.stat()
                digest = _file_hash(path, at.st_size, at.st_mtime_ns)
            except OSError as error:
                why = error.strerror
                raise SourceError(f"{self.label(dataset)}: cannot read {path}: {why}") from error
            total.update(f"{name}\0{at.st_size}\0{digest}\n".encode())
        return f"sha256-{total.hexdigest()[:32]}"

    def fetch(self, dataset: HubDataset, version: str) -> dict[str, list[Path]]:
        """The files of each raw split. SourceError if they are no longer those of ``version``."""
        label = self.label(dataset)
        if (now := self.version(dataset)) != version:
            raise SourceError(
                f"{label}: the files changed, from {version} to {now}; start again", retry=True
            )
        files = self._files(dataset)
        chosen = _choose(list(files), dataset, label)
        for name in (name for names in chosen.values() for name in names):
            _check_parquet(files[name], f"{label}, file {files[name]}")
        return {split: [files[name] for name in names] for split, names in chosen.items()}

    def _files(self, dataset: HubDataset) -> dict[str, Path]:
        _check_names(dataset)
        home = self.root / dataset.repository
        folder = home / dataset.config
        if not folder.is_dir():
            there = ", ".join(sorted(p.name for p in home.glob("*/"))) or "nothing"
            raise SourceError(
                f"{self.label(dataset)}: no folder {folder}. Expected split-00000-of-00001.parquet "
                f"files there; {home} holds: {there}"
            )
        return {p.relative_to(home).as_posix(): p for p in sorted(folder.rglob("*.parquet"))}


def match(files: Iterable[str], config: str, split: str) -> list[str]:
    """The parquet files of one split, in order, out of a repository's file names. Empty: none.

    Knows the layouts in use: ``config/split-00000-of-00003.parquet``, ``config/split/0000.parquet``
    (the Hub's own conversion), and, for config ``default`` or a repository that keeps no config in
    folders, ``data/split-….parquet``, ``split-….parquet``, ``split.parquet``.
    SourceError if shards are missing, doubled, or only partly converted.
    """
    parquet = [name for name in files if name.endswith(".parquet")]
    single = all(re.fullmatch(r"(data/)?[^/]+", name) for name in parquet)
    folders = [f"{config}/"] + (["data/", ""] if single or config == "default" else [])
    for folder in folders:
        if found := _shards(parquet, folder + split) or _converted(parquet, folder + split):
            return found
    if any(name.startswith(f"{config}/partial-{split}/") for name in parquet):
        raise SourceError(
            f"the Hub converted {config}/{split} only in part (folder partial-{split}), so rows "
            "would be missing; use a revision or a copy that holds the whole split"
        )
    return []


def _shards(files: list[str], stem: str) -> list[str]:
    hits = [m for name in files if (m := re.fullmatch(re.escape(stem) + _SHARD, name))]
    if not hits:
        return []
    found = sorted((int(m[1] or 0), m[0]) for m in hits)
    totals = {int(m[2] or 1) for m in hits}
    if len(totals) > 1 or [index for index, _ in found] != list(range(max(totals))):
        names = ", ".join(name for _, name in found)
        raise SourceError(f"the shards of {stem} are not one whole set, but {names}")
    return [name for _, name in found]


def _converted(files: list[str], stem: str) -> list[str]:
    hits = [m for name in files if (m := re.fullmatch(re.escape(stem) + r"/(\d+)\.parquet", name))]
    found = sorted((int(m[1]), m[0]) for m in hits)
    if [index for index, _ in found] != list(range(len(found))):
        raise SourceError(f"files of {stem}/ are missing: only {', '.join(n for _, n in found)}")
    return [name for _, name in found]


def _choose(files: list[str], dataset: HubDataset, where: str) -> dict[str, list[str]]:
    """Files of each raw split that the catalogue names and that exists; train must."""
    parts = dataset.slices
    try:
        found = {part.split: match(files, dataset.config, part.split) for part in parts.values()}
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    needed = parts["train"].split if "train" in parts else None
    if found.get(needed) or (needed is None and any(found.values())):
        return {split: names for split, names in found.items() if names}
    wanted = f"split {needed!r}" if needed else "any of its splits"
    script = next((name for name in files if "/" not in name and name.endswith(".py")), None)
    fix = ""
    if script and dataset.revision != CONVERTED:
        fix = f". It is made by a script ({script}), which never runs: use revision {CONVERTED}"
    raise SourceError(
        f"{where}: no parquet file for {wanted} of config {dataset.config!r}; "
        f"there is {_inventory(files)}{fix}"
    )


def _inventory(files: list[str], most: int = 20) -> str:
    kinds = {re.sub(r"-\d{5}-of-\d{5}|(?<=/)\d{4,}(?=\.)", "*", name) for name in files}
    kinds = sorted(kinds, key=lambda name: (not name.endswith(".parquet"), name))
    more = f" and {len(kinds) - most} more" if len(kinds) > most else ""
    return (", ".join(kinds[:most]) or "no file at all") + more


def _check_names(dataset: HubDataset) -> None:
    """Names become paths, so they are checked first; nothing may climb out of a folder."""
    if not _REPOSITORY.fullmatch(dataset.repository) or ".." in dataset.repository:
        raise BadConfig(f"repository {dataset.repository!r}: expected namespace/name")
    if not _CONFIG.fullmatch(dataset.config) or ".." in dataset.config:
        raise BadConfig(f"{dataset.repository}: config {dataset.config!r} is not a plain name")


def _check_bytes(path: Path, file: RepoSibling, name: str) -> None:
    """Compare a download with the size and hash (LFS: SHA-256, else git's) that the Hub lists."""
    size = path.stat().st_size
    wrong = f"{size} bytes instead of {file.size}" if file.size not in (None, size) else ""
    if not wrong and file.lfs and _digest(path, hashlib.sha256()) != file.lfs.sha256:
        wrong = "its SHA-256 is not the one that the Hub lists"
    if not wrong and not file.lfs and file.blob_id:
        head = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        wrong = "" if _digest(path, head) == file.blob_id else "its git hash is not the Hub's"
    if wrong:
        raise SourceError(f"{name}: broken copy, {wrong}; removed, try again", retry=True)


def _check_parquet(path: Path, name: str) -> None:
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.read_metadata(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise SourceError(f"{name}: not a readable parquet file ({error})") from error


def _forget(path: Path) -> None:
    """Remove a file of the cache and the blob it links to, so that it is downloaded anew."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


@lru_cache(maxsize=4096)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    return _digest(path, hashlib.sha256())


def _digest(path: Path, total: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _troubles() -> tuple[type[Exception], ...]:
    from huggingface_hub import errors

    xet = getattr(errors, "XetDownloadError", OSError)  # not in every version
    return (errors.HTTPError, errors.EntryNotFoundError, xet, OSError, ValueError)


def _cause(error: BaseException) -> BaseException:
    """What the library wraps when a file is neither to be had nor in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return (isinstance(error, LocalEntryNotFoundError) and error.__cause__) or error


def _try_again(error: BaseException) -> bool:
    """Whether to repeat here: not what the library has repeated itself before it gave up."""
    return _cause(error) is error and _may_pass(error)


def _may_pass(error: BaseException) -> bool:
    from huggingface_hub import errors

    error = _cause(error)
    if isinstance(error, SourceError):
        return error.retry
    if isinstance(error, errors.HfHubHTTPError):
        return error.response.status_code in (408, 429) or error.response.status_code >= 500
    if isinstance(error, (errors.OfflineModeIsEnabled, errors.FileMetadataError)):
        return False
    # A short download is a bare OSError; those of the disk (full, forbidden) carry a number.
    return isinstance(error, errors.HTTPError) or (type(error) is OSError and not error.errno)


def _asked_wait(error: BaseException | None) -> float:
    """Seconds that the Hub asks to wait: Retry-After, or the reset time of an empty quota."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    said = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", ""))
    said = said or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("RateLimit", ""))
    return float(said[1]) if said else 0.0


def _explain(error: Exception, page: str) -> str:
    """What happened and what to do. Never the library's own text, which may hold a signed URL."""
    from huggingface_hub import errors

    error = _cause(error)
    status = getattr(getattr(error, "response", None), "status_code", 0)
    words: list[tuple[type | tuple, str]] = [
        (errors.OfflineModeIsEnabled,
         "offline mode is on, so the commit cannot be asked for. Unset HF_HUB_OFFLINE, or name a "
         "folder of parquet files as the source"),
        (errors.GatedRepoError,
         f"access is gated. Accept the terms at {page} and set HF_TOKEN to that account's token"),
        (errors.RepositoryNotFoundError,
         f"{page} is not there, or private. Check the name; if private, set HF_TOKEN"),
        (errors.RevisionNotFoundError, f"{page} has no such revision. Check branch or commit"),
        (errors.RemoteEntryNotFoundError, f"{page} lists a file but does not hold it"),
        (errors.FileMetadataError, f"{page} is not served by a Hub. Check HF_ENDPOINT and proxies"),
    ]  # fmt: skip
    for kind, text in words:
        if isinstance(error, kind):
            return text
    if status in (401, 403):
        return f"{page} refuses access ({status}). Check HF_TOKEN and what it may read"
    if status:
        return f"{page} answers {status}. Try again later, or check HF_ENDPOINT"
    if isinstance(error, errors.HTTPError):
        return f"{page} cannot be reached ({type(error).__name__}). Check network and HF_ENDPOINT"
    what = getattr(error, "strerror", None) or type(error).__name__
    return f"the download from {page} failed ({what}). Check disk, cache (HF_HOME) and name"
