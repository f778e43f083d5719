"""What reading datasets and reading models from the Hugging Face Hub have in common.

Which names are repositories, whether a copy holds the right bytes, which errors may pass, and
what to tell people about those that do not.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from muppet_dag import connection
from muppet_dag.errors import SourceError
from muppet_dag.files import file_hash

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

#: Seconds to wait for an answer of the Hub's API.
ASK_S = 30.0

COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"\w[\w.\-]*(/\w[\w.\-]*)?")


def is_repository(name: str) -> bool:
    """Whether this is ``name`` or ``namespace/name``, which cannot climb out of a folder."""
    return bool(_REPOSITORY.fullmatch(name)) and ".." not in name


def info(
    kind: Literal["dataset", "model"],
    name: str,
    revision: str,
    endpoint: str | None,
    **listed: bool,
) -> Any:
    """The commit of a repository now, with its files where ``files_metadata`` is true. Always asks
    the Hub, never a cache. Raises one of `troubles`, also for what is no answer of a Hub."""
    api = connection.api(endpoint)
    ask = api.dataset_info if kind == "dataset" else api.model_info
    try:
        answer = ask(name, revision=revision, timeout=ASK_S, **listed)
        whole = not listed or all(isinstance(file.rfilename, str) for file in answer.siblings)
        if whole and COMMIT.fullmatch(answer.sha):
            return answer
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        if isinstance(error, troubles()) and not _no_json(error):
            raise
    raise NotAHub(f"{kind} {name}")


class NotAHub(ValueError):
    """Something answers, but not as a Hub does."""


def broken(path: Path, listed: RepoSibling) -> str:
    """What is wrong with a download, or nothing: its size and its hash (LFS: SHA-256, else git's)
    are compared with what the Hub lists."""
    size = path.stat().st_size
    if listed.size not in (None, size):
        return f"{size} bytes instead of {listed.size}"
    if listed.lfs and file_hash(path) != listed.lfs.sha256:
        return "its SHA-256 is not the one that the Hub lists"
    if not listed.lfs and listed.blob_id:
        head = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        return "" if _digest(path, head) == listed.blob_id else "its git hash is not the Hub's"
    return ""


def forget(path: Path) -> None:
    """Remove a file of the cache and the blob it links to, so that it is downloaded anew."""
    blob = path.resolve()
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)


def troubles() -> tuple[type[Exception], ...]:
    """The errors that a call into huggingface_hub may raise for reasons outside this program."""
    from huggingface_hub import errors

    xet = getattr(errors, "XetDownloadError", OSError)  # not in every version
    httpx = sys.modules[errors.HTTPError.__module__.partition(".")[0]]  # or httpx2
    known = (errors.HTTPError, errors.EntryNotFoundError, xet, OSError, ValueError)
    return (*known, httpx.InvalidURL)


def try_again(error: BaseException) -> bool:
    """Whether to repeat here: not what the library has repeated itself before it gave up."""
    return _cause(error) is error and may_pass(error) and not connection.slowness(error)


def may_pass(error: BaseException) -> bool:
    """Whether the same call may work later: no connection, 408, 429, 5xx, a short download."""
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


def asked_wait(error: BaseException | None) -> float:
    """Seconds that the Hub asks to wait: Retry-After, or the reset time of an empty quota."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    match = re.fullmatch(r"\s*(\d+)\s*", headers.get("Retry-After", ""))
    match = match or re.search(r"r=0\s*;\s*t=(\d+)", headers.get("RateLimit", ""))
    return float(match[1]) if match else 0.0


def explained(error: Exception, page: str, where: str, instead: str) -> SourceError:
    """What happened at ``page``, what to do, and whether it may pass.

    ``where`` names what was asked for and ``instead`` what serves without a network. The
    library's own text is never shown: it may hold a signed URL.
    """
    retry = may_pass(error)
    error = _cause(error)
    text = _known(error, page, instead) or _by_status(error, page)
    return SourceError(f"{where}: {text}", retry=retry)


def _known(error: BaseException, page: str, instead: str) -> str | None:
    from huggingface_hub import errors

    texts: list[tuple[type[BaseException] | tuple[type[BaseException], ...], str]] = [
        (errors.OfflineModeIsEnabled,
         "offline mode is on, so the commit cannot be asked for. Unset HF_HUB_OFFLINE, or name "
         + instead),
        (errors.GatedRepoError,
         f"access is gated. Accept the terms at {page} and set HF_TOKEN to that account's token"),
        (errors.RepositoryNotFoundError,
         f"{page} is not there, or private. Check the name; if private, set HF_TOKEN"),
        (errors.RevisionNotFoundError, f"{page} has no such revision. Check branch or commit"),
        (errors.RemoteEntryNotFoundError, f"{page} lists a file but does not hold it"),
        ((errors.FileMetadataError, NotAHub),
         f"{page} is not served by a Hub: not a Hub, or a log-in page. Check HF_ENDPOINT and "
         "proxies"),
    ]  # fmt: skip
    if slow := connection.slowness(error):
        return f"{page} is too slow ({slow}). Try again later, or name a mirror in HF_ENDPOINT"
    return next((text for kind, text in texts if isinstance(error, kind)), None)


def _by_status(error: BaseException, page: str) -> str:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        return f"{page} refuses access ({status}). Check HF_TOKEN and what it may read"
    if status:
        return f"{page} answers {status}. Try again later, or check HF_ENDPOINT"
    if isinstance(error, errors.HTTPError):
        return f"{page} cannot be reached ({type(error).__name__}). Check network and HF_ENDPOINT"
    what = getattr(error, "strerror", None) or type(error).__name__
    return f"the download from {page} failed ({what}). Check disk, cache (HF_HOME) and name"


def _cause(error: BaseException) -> BaseException:
    """What the library wraps when a file is neither to be had nor in the cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return (isinstance(error, LocalEntryNotFoundError) and error.__cause__) or error


def _no_json(error: BaseException) -> bool:
    return isinstance(error, (json.JSONDecodeError, UnicodeDecodeError))


def _digest(path: Path, total: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()
