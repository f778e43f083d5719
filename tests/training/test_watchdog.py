"""A worker that hangs ends the job, and the message names it."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from gang import gang
from torch import nn

from muppet_dag.training.group import Group
from muppet_dag.training.watchdog import HUNG, Place, explain

TIMEOUT_S = 3.0


def hang(group: Group, folder: str, where: str) -> None:
    """Two rounds of what a step does; before the second, rank 1 may fall asleep."""
    log = os.open(f"{folder}/{group.rank}", os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 2)
    parameter = nn.Parameter(torch.zeros(3))
    for number in range(2):
        if number and group.rank == 1 and where == "between":
            time.sleep(600)
        parameter.grad = torch.ones(3)
        group.sum_gradients([parameter])
        group.any(False)
    assert where == "nowhere"


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_worker_that_sleeps_ends_the_job_and_is_named(tmp_path, workers):
    started = time.monotonic()
    codes = gang(workers, hang, str(tmp_path), "between", patience=timedelta(seconds=TIMEOUT_S))
    # The first to end breaks the others' connections, so that some may end with an error of gloo's.
    hung = [rank for rank, code in enumerate(codes) if code == HUNG]
    assert hung and all(codes)
    for rank in hung:
        message = Path(tmp_path, str(rank)).read_text()
        assert f"Behind: rank 1 of {workers}" in message and "run again" in message
        assert "others wait in a sum" in message or rank == 1
    assert time.monotonic() - started < 120  # most of it is Python's imports


def test_a_job_that_goes_on_is_left_alone(tmp_path):
    codes = gang(2, hang, str(tmp_path), "nowhere", patience=timedelta(seconds=TIMEOUT_S))
    assert codes == [0, 0]
    assert all(path.read_text() == "" for path in tmp_path.iterdir())


def test_who_is_behind():
    came, absent, ahead = Place(5, "a sum"), Place(4), Place(7, "a sum")
    assert "Behind: rank 1 of 3; others wait in a sum" in explain(
        0, {0: came, 1: absent, 2: came}, 9
    )
    assert "Behind: rank 0, 2 of 3" in explain(0, {0: absent, 1: came, 2: absent}, 9)
    assert "Behind: rank 0 of 2" in explain(1, {0: came, 1: ahead}, 9)  # in another sum
    assert "Behind: rank 1 of 2. This process ends" in explain(0, {0: Place(5), 1: absent}, 9)
