"""How huggingface_hub's connections behave here: bounded by what they bring, and silent.

Its own time limits are for one read each, so a server that sends a byte a second is waited for
without end; and its loggers write addresses with their signatures.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from muppet_dag.text import redacted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: An answer has to bring so many bytes in so many seconds of waiting for it.
LEAST_BYTES, PATIENCE_S = 60_000, 60.0
_SLOW = "too slow: "  # opens the message, since the library makes an error of its own of ours
#: Loggers whose records may hold addresses that were signed for this one download.
_LOGGERS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2", "fsspec", "urllib3")


def api(endpoint: str | None = None) -> HfApi:
    """The Hub's library, at ``endpoint`` or where HF_ENDPOINT says."""
    from huggingface_hub import HfApi

    _prepare()
    return HfApi(endpoint=endpoint)


def slowness(error: BaseException) -> str:
    """What little came in what time, if that is why a connection was ended; else nothing."""
    return str(error).removeprefix(_SLOW) if str(error).startswith(_SLOW) else ""


@lru_cache(maxsize=1)
def _prepare() -> None:
    from huggingface_hub import constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    if "HF_HUB_DISABLE_XET" not in os.environ:
        # Its connections are made by a library of its own, which knows no bound.
        constants.HF_HUB_DISABLE_XET = True
    set_client_factory(lambda: _metered(default_client_factory()))
    make = logging.getLogRecordFactory()
    logging.setLogRecordFactory(lambda *args, **kwargs: _silent(make(*args, **kwargs)))


def _silent(record: logging.LogRecord) -> logging.LogRecord:
    """A record of the connection's loggers without signed addresses. Set where records are made,
    since a filter of a logger does not see those of the loggers below it."""
    if (record.name or "").partition(".")[0] in _LOGGERS:  # logging itself makes nameless ones
        with suppress(TypeError, ValueError):  # arguments that do not fit are told elsewhere
            record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
    return record


def _metered(client: Any) -> Any:
    """The client with its connections under the meter, those through a proxy as well."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)  # a mount may be None: no proxy for these hosts
        if hasattr(pool, "_network_backend"):
            core = sys.modules[type(pool).__module__.partition(".")[0]]
            pool._network_backend = _Backend(pool._network_backend, core)
    return client


class _Backend:
    """Makes connections that are under the meter. ``core`` is the package that they are of."""

    def __init__(self, backend: Any, core: Any) -> None:
        self._backend, self._core = backend, core

    def connect_tcp(self, *args: Any, **kwargs: Any) -> _Metered:
        return _Metered(self._backend.connect_tcp(*args, **kwargs), self._core)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class _Metered:
    """A connection that ends when an answer brings less than LEAST_BYTES in PATIENCE_S seconds of
    waiting for it. Only waiting counts: neither what is done with the bytes nor pauses between
    answers, so a slow disk is not taken for a slow server."""

    def __init__(self, stream: Any, core: Any) -> None:
        self._stream, self._core = stream, core
        self._bytes, self._waited = 0, 0.0

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        began = time.monotonic()
        data = self._stream.read(max_bytes, timeout)
        self._waited += time.monotonic() - began
        self._bytes += len(data)
        if self._waited >= PATIENCE_S:
            if self._bytes < LEAST_BYTES and data:
                rate = f"{self._bytes} bytes in {self._waited:.0f} s"
                raise self._core.ReadTimeout(f"{_SLOW}{rate}")
            self._bytes, self._waited = 0, 0.0
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """A request: what comes next is another answer."""
        self._bytes, self._waited = 0, 0.0
        self._stream.write(buffer, timeout)

    def start_tls(self, *args: Any, **kwargs: Any) -> _Metered:
        return _Metered(self._stream.start_tls(*args, **kwargs), self._core)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
