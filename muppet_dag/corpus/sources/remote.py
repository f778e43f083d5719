"""Datasets on the Hugging Face Hub, each at one commit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from muppet_dag import connection, hub
from muppet_dag.catalogue.task import CONVERTED, HubDataset
from muppet_dag.corpus.sources.card import CARDS
from muppet_dag.corpus.sources.checks import check_names, check_parquet, read_text
from muppet_dag.corpus.sources.layout import choose
from muppet_dag.errors import BadConfig, SourceError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling
    from tenacity import RetryCallState

T = TypeVar("T")

_MANY = 50_000  # beyond this many files the Hub's file list is not complete
_INSTEAD = "a folder of parquet files as the source"


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
        return self._info(dataset, dataset.revision).sha

    def fetch(self, dataset: HubDataset, version: str) -> dict[str, list[Path]]:
        """Download (or find in the cache) the parquet files of ``dataset`` at commit ``version``.

        Every file is checked against the size and hash that the Hub lists, and opened, before any
        is returned. SourceError if a file is missing or broken, or if none of the splits is there.
        """
        if not hub.COMMIT.fullmatch(version):
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
        cards = {name: read_text(get(files[name])) for name in known if name in files}
        chosen = choose(list(files), dataset, where, cards)
        return {split: [get(files[name]) for name in names] for split, names in chosen.items()}

    def _info(self, dataset: HubDataset, revision: str, listed: bool = False):
        check_names(dataset)
        wanted = {"files_metadata": True} if listed else {}
        ask = partial(hub.info, "dataset", dataset.repository, revision, self.endpoint, **wanted)
        return self._try(ask, dataset, revision)

    def _get(self, dataset: HubDataset, version: str, file: RepoSibling) -> Path:
        def once() -> Path:
            path = Path(
                connection.api(self.endpoint).hf_hub_download(
                    dataset.repository,
                    file.rfilename,
                    repo_type="dataset",
                    revision=version,
                    cache_dir=self.cache,
                )
            )
            name = f"{self.label(dataset)} at {version}, file {file.rfilename}"
            try:
                if damage := hub.broken(path, file):
                    text = f"{name}: broken copy, {damage}; removed, try again"
                    raise SourceError(text, retry=True)
                if path.suffix == ".parquet":
                    check_parquet(path, name)
            except SourceError:
                hub.forget(path)
                raise
            return path

        return self._try(once, dataset, version)

    def _try(self, action: Callable[[], T], dataset: HubDataset, revision: str) -> T:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.attempts), wait=self._wait,
            retry=retry_if_exception(hub.try_again), reraise=True,
        )  # fmt: skip
        try:
            return retrying(action)
        except hub.troubles() as error:
            at = connection.api(self.endpoint).endpoint
            page, where = f"{at}/datasets/{dataset.repository}", f"{self.label(dataset)}, revision"
            # Not "from error": its text may hold a signed address, and causes are logged.
            raise hub.explained(error, page, f"{where} {revision}", _INSTEAD) from None

    def _wait(self, state: RetryCallState) -> float:
        from tenacity import wait_exponential_jitter

        first, longest = self.first_wait, self.longest_wait
        backoff = wait_exponential_jitter(first, longest, jitter=first)
        asked = hub.asked_wait(state.outcome.exception())
        return min(longest, max(asked, backoff(state)))
