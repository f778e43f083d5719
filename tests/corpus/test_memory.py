"""From raw files to checked shards in memory that does not grow with the data."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workbench import TASKS

from benchmarks.process import fresh
from muppet_dag import catalogue
from muppet_dag.catalogue.task import classification, files
from muppet_dag.corpus.normalize import normalize

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


def write(path: Path, documents: int) -> None:
    """Documents of 250 kB: Parquet holds them in one row group."""
    texts = [f"{number} " + "word " * 50_000 for number in range(documents)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "label": ["0"] * documents}), path)
        return
    csv = path.suffix == ".csv"
    with path.open("w") as file:
        file.write("text,label\n" if csv else "")
        file.writelines(f"{t},0\n" if csv else f'{{"text": "{t}", "label": 0}}\n' for t in texts)


def rows_of(path: Path) -> int:
    """From a file to shards; returns how many rows."""
    task = classification(files(str(path)), text="text", label="label", classes=("0", "1"))
    (path.parent / "out").mkdir()
    facts = normalize(replace(task, name="long"), {"train": [path]}, path.parent / "out")
    return facts["splits"]["train"]["rows"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_long_documents_are_never_all_in_memory(tmp_path, ending):
    path, documents = tmp_path / f"long.{ending}", 4_000
    fresh(write, path, documents)
    rows, peak_mb = fresh(rows_of, path)
    assert rows == documents and peak_mb < 1_200
