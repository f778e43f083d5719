"""Whatever answers in the place of the Hub: the right bytes come, or an error that says why, in
bounded time and without what nobody may see."""

from __future__ import annotations

import io
import logging
import time
import traceback

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin_hub import ERRORS, ODD, SIGNED, StandinHub

from muppet_dag import connection
from muppet_dag.catalogue.task import hub
from muppet_dag.corpus.sources import HubSource
from muppet_dag.errors import MuppetError, SourceError
from muppet_dag.model.base import base_version

TINY, MODEL = "glue-makers/tiny", "makers/model"
COLA = hub(TINY, "cola")
KINDS = sorted({*ERRORS, *ODD, "cut", "reset", "truncate"})
_sleep = time.sleep


def parquet(*texts: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": list(texts)}), sink)
    return sink.getvalue().to_pybytes()


TRAIN = parquet("a", "b")


@pytest.fixture
def standin(tmp_path):
    with StandinHub(tmp_path / "served") as standin:
        standin.put(TINY, {"cola/train-00000-of-00001.parquet": TRAIN, "README.md": b"# tiny"})
        standin.put(MODEL, {"config.json": b"{}", "model.safetensors": b"x" * 99}, kind="models")
        yield standin


@pytest.fixture
def source(standin, tmp_path):
    return HubSource(standin.url, cache=tmp_path / "cache", attempts=2, first_wait=0.01)


@pytest.fixture
def everything(monkeypatch):
    """All that any logger writes."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    named = [logging.getLogger(name) for name in (None, *connection._LOGGERS)]
    before = [(each, each.level, each.propagate) for each in named]
    root.addHandler(handler)
    for each in named:
        each.setLevel(logging.DEBUG)
        each.propagate = True
    yield text
    root.removeHandler(handler)
    for each, level, propagate in before:
        each.setLevel(level)
        each.propagate = propagate


def fetch(source: HubSource) -> dict:
    return {
        split: [path.read_bytes() for path in paths]
        for split, paths in source.fetch(COLA, source.version(COLA)).items()
    }


FAULTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(["/api/", "/resolve/", "README", ".parquet", ""]),
        st.sampled_from([1, 2, 99]),
        st.sampled_from(["", "GET", "HEAD"]),
    ),
    min_size=1,
    max_size=3,
)


@settings(
    max_examples=20, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(FAULTS)
def test_the_right_bytes_or_an_error_that_says_why(standin, tmp_path, everything, faults):
    standin.faults.clear()
    for kind, where, times, method in faults:
        standin.fault(kind, where, times=times, method=method)
    cache = tmp_path / str(time.monotonic_ns())
    source = HubSource(standin.url, cache=cache, attempts=2, first_wait=0.01, longest_wait=0.02)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: _sleep(min(seconds, 0.02)))
        began = time.monotonic()
        try:
            assert fetch(source) == {"train": [TRAIN]}
        except MuppetError as error:
            assert TINY in str(error)
            assert "s3cret" not in "".join(traceback.format_exception(error))
        assert time.monotonic() - began < 15
    assert "s3cret" not in everything.getvalue()


@pytest.mark.parametrize("kind", ["html", "empty", "list", "null", "other json", "no utf-8"])
def test_what_is_no_hub_is_called_so(standin, source, kind):
    standin.fault(kind, "/api/", times=99)
    for ask in (
        lambda: source.version(COLA),
        lambda: base_version(MODEL, endpoint=standin.url),
    ):
        with pytest.raises(SourceError, match=r"not a Hub, or a log-in page.*HF_ENDPOINT") as error:
            ask()
        assert not error.value.retry
    assert len(standin.requests) == 2  # it does not pass, so it is asked once each


def test_a_signed_address_is_in_no_log_and_no_error(standin, source, everything, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: _sleep(min(seconds, 0.02)))
    standin.fault("nowhere", ".parquet", times=99, method="GET")
    with pytest.raises(SourceError) as error:
        fetch(source)
    logged = everything.getvalue()
    assert "127.0.0.1:9" in logged and "s3cret" not in logged  # all was logged but that
    assert "s3cret" not in "".join(traceback.format_exception(error.value))
    log = logging.getLogger("httpx2")
    try:
        raise OSError(f"http://x/y{SIGNED}")
    except OSError:
        log.exception("of %s", f"http://x{SIGNED}")
    assert logging.makeLogRecord({"msg": SIGNED}).getMessage() == SIGNED  # nobody's, as before
    assert "OSError" in everything.getvalue() and "s3cret" not in everything.getvalue()


@pytest.mark.parametrize("kind", ["drip", "drip head"])
@pytest.mark.parametrize("where", ["/api/", ".parquet"])
def test_a_server_that_drips_is_not_waited_for(standin, source, monkeypatch, kind, where):
    monkeypatch.setattr(connection, "PATIENCE_S", 0.2)
    monkeypatch.setattr(time, "sleep", lambda seconds: _sleep(min(seconds, 0.02)))
    standin.fault(kind, where, times=99)
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"too slow \(\d+ bytes in") as error:
        fetch(source)
    assert error.value.retry and time.monotonic() - began < 15


def test_a_proxy_that_drips_is_not_waited_for(standin, tmp_path, monkeypatch):
    from huggingface_hub import close_session

    monkeypatch.setattr(connection, "PATIENCE_S", 0.2)
    monkeypatch.setenv("HTTP_PROXY", standin.url)
    standin.fault("drip", "/api/", times=99)
    close_session()  # it keeps the proxies that it has seen
    try:
        with pytest.raises(SourceError, match="too slow"):
            HubSource("http://hub.invalid", cache=tmp_path).version(COLA)
    finally:
        close_session()


def test_what_is_slow_but_steady_arrives(standin, source, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE_S", 0.2)
    monkeypatch.setattr(connection, "LEAST_BYTES", 5)  # of fifty that drip in that time
    standin.fault("drip", ".parquet", times=1, method="GET")
    began = time.monotonic()
    assert fetch(source) == {"train": [TRAIN]}
    assert time.monotonic() - began > 5 * 0.2  # far beyond the patience
