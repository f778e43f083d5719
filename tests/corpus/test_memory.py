"""From raw files to checked shards in memory that does not grow with the data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from workbench import TASKS

from muppet_dag import catalogue

ROOT = Path(__file__).parents[2]


def measured(*args: str) -> tuple[list[str], dict[str, int]]:
    """What the benchmark prints, and its figures."""
    command = [sys.executable, "-m", "benchmarks.catalogue", *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, figures = done.stdout.splitlines()
    return lines, json.loads(figures)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_gigabyte_of_text_is_never_all_in_memory():
    _, figures = measured("--synthetic", "1")
    assert figures["tasks"] == 2 and figures["rows"] > 5_000_000
    assert figures["peak_mb"] < 900


def test_tasks_without_data_are_named_with_the_reason(bench):
    lines, figures = measured(str(bench.raw))
    splits = [s for name in TASKS for s in bench.shards(name).facts["splits"].values()]
    assert figures["tasks"] == len(TASKS)
    assert figures["rows"] == sum(split["rows_in"] for split in splits)
    assert figures["rows_per_second"] > 0 and figures["peak_mb"] < 500
    reasons = [line for line in lines if line.startswith("no shards of ")]
    assert len(reasons) == len(catalogue.TASKS) - len(TASKS)
    assert any("boolq" in line and "no folder" in line for line in reasons)
