"""Fixtures that several parts share. Nothing here touches a network."""

from __future__ import annotations

import os

import pytest

# Bit-identical runs need as many threads here as in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory):
    """Samples of a few tasks as shards in a store; tokens and tiny models come on demand."""
    from workbench import Workbench

    return Workbench.make(tmp_path_factory.mktemp("bench"))
