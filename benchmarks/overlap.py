"""The overlap report over rows of natural length, at a quarter, half and all of ``--rows``.

``python -m benchmarks.overlap [--rows 5000000]``. Words follow Zipf's law, texts are as long as
those of the catalogue are in the mean: nine in ten are sentences or pairs of about 30 words, one in
ten is a passage of about 300. One evaluation row comes with each twenty training rows; one in a
thousand training rows is an evaluation row with other case and punctuation, another one in a
thousand is one with a word changed. Each size runs in a process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.process import fresh
from benchmarks.table import show
from benchmarks.text import texts, vocabulary

#: Training rows per evaluation row, and per planted copy of either kind.
EVALUATION, PLANTED = 20, 1000
SHORT, LONG, LONG_SHARE = 30, 300, 0.1
TASKS, SEED, VOCABULARY, AT_ONCE = 4, 20210111, 200_000, 20_000


def main() -> None:
    """Run three sizes, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="training rows")
    args = parser.parse_args()
    results = [run(args.rows // part) for part in (4, 2, 1)]
    show(
        ("training rows", "raw MB", "seconds", "rows/s", "peak MB", "planted", "found"),
        [
            (f"{r['rows']:,}", f"{r['raw_mb']:,}", f"{r['seconds']:.1f}",
             f"{r['rows'] / r['seconds']:,.0f}", f"{r['peak_mb']:,}", r["planted"], r["found"])
            for r in results
        ],
    )  # fmt: skip
    keys = ("rows", "seconds", "peak_mb", "found", "planted")
    print(json.dumps({key: results[-1][key] for key in keys}))


def run(rows: int) -> dict:
    """Write the shards of ``rows`` training rows and measure the report in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        planted, _ = fresh(write, Path(folder), rows)
        raw = sum(path.stat().st_size for path in Path(folder).rglob("*.arrow"))
        measured, peak = fresh(measure, Path(folder))
        return {"rows": rows, "planted": planted, "raw_mb": raw >> 20, "peak_mb": peak, **measured}


def measure(folder: Path) -> dict:
    """Seconds that the report takes, and the rows it finds."""
    from muppet_dag.corpus import overlap

    folders = {path.name: path for path in sorted(folder.iterdir())}
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        facts = overlap.find(folders, Path(out))
        seconds = time.perf_counter() - start
    matches = sum(row["row"] + row["near"] for row in facts["matrix"])
    return {"seconds": round(seconds, 1), "found": matches}


def write(folder: Path, rows: int) -> int:
    """Shards of ``TASKS`` tasks; returns how many copies of evaluation rows were planted."""
    from muppet_dag.corpus.shards import ShardWriter

    draw = np.random.default_rng(SEED)
    words = vocabulary(draw, VOCABULARY)
    planted = 0
    for index in range(TASKS):
        home = folder / f"task{index}"
        home.mkdir()
        with ShardWriter(home, "train") as train, ShardWriter(home, "validation") as validation:
            for at in range(0, rows // TASKS, AT_ONCE):
                count = min(AT_ONCE, rows // TASKS - at)
                evaluation, training, copies = draw_rows(draw, words, count)
                validation.write(batch(evaluation))
                train.write(batch(training))
                planted += copies
    return planted


def draw_rows(
    draw: np.random.Generator, words: pa.Array, count: int
) -> tuple[pa.Array, pa.Array, int]:
    """Evaluation rows, ``count`` training rows, and how many of these are copies of the former."""
    evaluation = draw_texts(draw, words, max(1, count // EVALUATION))
    copies = evaluation.slice(0, count // PLANTED)
    same = pc.binary_join_element_wise("- ", pc.utf8_upper(copies), "!", "")
    near = pc.replace_substring_regex(copies, r" \S+$", " changed", max_replacements=1)
    others = draw_texts(draw, words, count - 2 * len(copies))
    return evaluation, pa.concat_arrays([same, others, near]), 2 * len(copies)


def draw_texts(draw: np.random.Generator, words: pa.Array, count: int) -> pa.Array:
    """Texts of which one in ten is a passage."""
    means = np.where(draw.random(count) < LONG_SHARE, LONG, SHORT)
    return texts(draw, words, draw.poisson(means).clip(12))


def batch(rows: pa.Array) -> pa.RecordBatch:
    """Rows of the unified schema that hold a text and nothing else."""
    from muppet_dag.corpus.schema import SCHEMA

    ids = pc.cast(pa.array(np.arange(len(rows))), pa.string())
    filled = {"id": ids, "text": rows}
    columns = [filled.get(f.name, pa.nulls(len(rows), f.type)) for f in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


if __name__ == "__main__":
    main()
