"""Fixtures that several parts share. Nothing here touches a network."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from muppet_dag.catalogue import PROBLEMS, TASKS

# Bit-identical runs need as many threads here as in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def catalogue_as_it_was() -> Iterator[None]:
    """Tasks that a test adds, and problems that it makes, are its own."""
    before = dict(TASKS)
    yield
    TASKS.clear()
    TASKS.update(before)
    PROBLEMS.clear()


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory):
    """Samples of a few tasks as shards in a store; tokens and tiny models come on demand."""
    from workbench import Workbench

    return Workbench.make(tmp_path_factory.mktemp("bench"))
