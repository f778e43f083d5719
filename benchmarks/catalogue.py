"""Every task of a source to checked shards: rows per second, and peak memory.

``python -m benchmarks.catalogue DATA`` (``samples``, or a folder laid out as the Hub) takes each
task through what its step of the DAG does: ``pipeline.make_shards`` into an empty store, then the
description and the checks. ``--synthetic 5`` in place of DATA writes raw files that hold 5 GB of
text and takes those: nine tenths of it pairs of sentences (MNLI), one tenth questions about long
passages (SQuAD). All tasks run one after the other in one new process, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.process import fresh
from benchmarks.synthetic import TASKS, write
from benchmarks.table import show


def main() -> None:
    """Measure a source, or made-up files of a size; print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("data", nargs="?", help="samples, or a folder laid out as the Hub")
    source.add_argument("--synthetic", type=float, metavar="GB", help="made-up text, so much of it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, tasks = Path(folder), None
        if args.synthetic:
            args.data, tasks = str(home / "raw"), list(TASKS)
            written, _ = fresh(write, home / "raw", args.synthetic)
            print(f"{written / 1e9:.2f} GB of text")
        results, peak_mb = fresh(measure, args.data, home / "store", tasks)
    report(results, peak_mb)


def measure(data: str, home: Path, tasks: list[str] | None) -> list[dict[str, Any]]:
    """Take tasks (all, if None) to shards: name, rows and seconds, or why there are no shards."""
    from muppet_dag import catalogue, pipeline
    from muppet_dag.errors import MuppetError
    from muppet_dag.store import Store

    store = Store(home)
    source = pipeline.open_source(data, store)
    results = []
    for name in tasks or catalogue.TASKS:
        start = time.perf_counter()
        try:
            rows = step(store, source, catalogue.get(name))
        except MuppetError as error:
            results.append({"task": name, "why": " ".join(str(error).split())})
        else:
            results.append({"task": name, "rows": rows, "seconds": time.perf_counter() - start})
    return results


def step(store: Any, source: Any, task: Any) -> int:
    """What the asset of a task's shards does; returns the raw rows that it read."""
    from muppet_dag import pipeline
    from muppet_dag.corpus import quality

    shards = pipeline.make_shards(store, source, task)
    quality.describe(task, shards.path)
    quality.examine(task, shards.path, shards.facts)
    return sum(split["rows_in"] for split in shards.facts["splits"].values())


def report(results: list[dict[str, Any]], peak_mb: int) -> None:
    """A table for people, what was left out and why, and a JSON line for machines."""
    done = [result for result in results if "rows" in result]
    rows = sum(result["rows"] for result in done)
    seconds = sum(result["seconds"] for result in done)
    total = {"task": f"{len(done)} tasks", "rows": rows, "seconds": seconds}
    show(
        ("task", "rows", "seconds", "rows/s"),
        [
            (r["task"], f"{r['rows']:,}", f"{r['seconds']:.2f}", f"{r['rows'] / r['seconds']:,.0f}")
            for r in [*done, total]
            if r["rows"]
        ],
    )
    print(f"peak memory {peak_mb:,} MB")
    for result in results:
        if "why" in result:
            print(f"no shards of {result['task']}: {result['why']}")
    totals = {"tasks": len(done), "rows": rows, "seconds": round(seconds, 2)}
    speed = round(rows / seconds) if done else 0
    print(json.dumps({**totals, "rows_per_second": speed, "peak_mb": peak_mb}))


if __name__ == "__main__":
    main()
