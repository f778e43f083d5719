"""From raw parquet to normalised rows, at the size of MNLI: ours, bare DuckDB, and ``datasets``.

``python -m benchmarks.normalize``. Ours is ``pipeline.make_shards`` into an empty store: reading
and hashing the source, the SQL, checks of every value, ids, shards on disk, checksums, manifest.
Bare DuckDB runs the entry's column expressions into an Arrow table in memory and does nothing
else. ``datasets`` loads the parquet file and maps it, writing its cache files as it does.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.table import show
from benchmarks.text import texts, vocabulary
from muppet_dag import catalogue, pipeline
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.store import Store

TASK = catalogue.get("mnli")
ROWS, PREMISE_WORDS, HYPOTHESIS_WORDS = 392_702, 20, 10
#: As the library writes files that are pushed to the Hub.
ROW_GROUP = 1_000
RUNS, SEED, VOCABULARY = 3, 20210111, 30_000


def main() -> None:
    """Write the rows, take the contestants' times in turn, print a table and a JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        path = write_source(home / "source")
        ours = f"muppet-dag, {os.cpu_count()} cores"
        runs: dict[str, tuple[str, int, Callable[[Path], int]]] = {
            "seconds": (ours, RUNS, lambda scratch: make_shards(path, home / "source", scratch)),
            "bare_duckdb_seconds": ("bare DuckDB, in memory", RUNS, lambda _: bare(path)),
            "datasets_map_seconds": ("datasets map", 1, lambda scratch: mapped(path, scratch)),
            "datasets_map_batched_seconds": (
                "datasets map, batched", RUNS, lambda scratch: mapped(path, scratch, batched=True),
            ),
        }  # fmt: skip
        times = {key: [] for key in runs}
        for turn in range(RUNS):
            for key, (_, most, run) in runs.items():
                if turn < most:
                    times[key].append(timed(run, home / "scratch"))
    report({key: (runs[key][0], taken) for key, taken in times.items()})


def timed(run: Callable[[Path], int], scratch: Path) -> float:
    """Seconds of one run in an empty folder; every contestant must give every row."""
    scratch.mkdir()
    start = time.perf_counter()
    rows = run(scratch)
    seconds = time.perf_counter() - start
    shutil.rmtree(scratch)
    assert rows == ROWS, rows
    return seconds


def make_shards(path: Path, source: Path, scratch: Path) -> int:
    """Ours, with everything a step of the DAG does."""
    path.touch()  # the hash of the source is kept per modification time, and is to count
    shards = pipeline.make_shards(Store(scratch), DirectorySource(source), TASK)
    return shards.facts["splits"]["train"]["rows"]


def bare(path: Path) -> int:
    """The entry's expressions and nothing else."""
    import duckdb

    columns = ", ".join(f"{sql} AS {name}" for name, sql in TASK.columns.items())
    with duckdb.connect() as con:
        con.execute("SET enable_progress_bar = false")
        return con.sql(f"SELECT {columns} FROM read_parquet('{path}')").to_arrow_table().num_rows


def mapped(path: Path, scratch: Path, *, batched: bool = False) -> int:
    """``load_dataset("parquet")`` and ``map``, into a cache of its own."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.load_dataset(
        "parquet", data_files={"train": str(path)}, split="train", cache_dir=str(scratch)
    )
    renamed = rows.map(rename, batched=batched, remove_columns=rows.column_names)
    return renamed.num_rows


def rename(row: dict) -> dict:
    """The same mapping as the entry's, for a row or for a batch of rows."""
    return {"text": row["premise"], "query": row["hypothesis"], "label": row["label"]}


def write_source(root: Path) -> Path:
    """Made-up rows in MNLI's raw schema and layout; returns the file."""
    draw = np.random.default_rng(SEED)
    words = vocabulary(draw, VOCABULARY)
    lengths = [draw.poisson(mean, ROWS).clip(1) for mean in (PREMISE_WORDS, HYPOTHESIS_WORDS)]
    columns = {
        "premise": texts(draw, words, lengths[0]),
        "hypothesis": texts(draw, words, lengths[1]),
        "label": pa.array(draw.integers(0, 3, ROWS)),
        "idx": pa.array(np.arange(ROWS, dtype=np.int32)),
    }
    folder = root / TASK.dataset.repository / TASK.dataset.config
    folder.mkdir(parents=True)
    path = folder / "train-00000-of-00001.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=ROW_GROUP)
    return path


def report(times: dict[str, tuple[str, list[float]]]) -> None:
    """A table for people, and a JSON line for machines."""
    medians = {key: round(statistics.median(taken), 3) for key, (_, taken) in times.items()}
    bare_seconds = medians["bare_duckdb_seconds"]
    show(
        ("", "runs", "min s", "median s", "rows/s", "× bare"),
        [
            (name, len(taken), f"{min(taken):.2f}", f"{medians[key]:.2f}",
             f"{ROWS / medians[key]:,.0f}", f"{medians[key] / bare_seconds:.2f}")
            for key, (name, taken) in times.items()
        ],
    )  # fmt: skip
    print(json.dumps({"rows": ROWS, **medians}))


if __name__ == "__main__":
    main()
