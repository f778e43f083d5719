"""What an asset's error becomes in Dagster: a line, and a retry only of what may pass."""

from __future__ import annotations

import errno
import os

import dagster as dg
import pytest

from assets.report import RETRIES, plain_errors
from muppet_dag.errors import BadConfig, SourceError


@pytest.mark.parametrize(
    ("error", "tries", "text"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y"), 1, "/x/y: No space left on"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/x/y"), 1, "/x/y: Input/output error"),
        (RuntimeError("write failed: No space left on device (os error 28)"), 1, "make room"),
        (KeyError("a bug"), 1, "KeyError: 'a bug'"),
        (BadConfig("recipe 'x': no"), 1, "recipe 'x': no"),
        (SourceError("not there"), 1, "not there"),
        (SourceError("the network", retry=True), 3, "the network"),
        (dg.Failure("as it is", allow_retries=True), 3, "as it is"),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, tries: int, text: str) -> None:
    tried = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))  # as RETRIES, without its delay
    def thing() -> None:
        tried.append(1)
        with plain_errors():
            raise error

    assert RETRIES.max_retries
    result = dg.materialize([thing], raise_on_error=False)
    assert len(tried) == tries
    failure = next(e for e in result.all_events if e.is_step_failure).step_failure_data
    assert text in failure.user_failure_data.description


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), plain_errors():
        raise KeyboardInterrupt
