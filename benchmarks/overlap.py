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
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.table import show

#: Training rows per evaluation row, and per planted copy of either kind.
EVALUATION, PLANTED = 20, 1000
SHORT, LONG, LONG_SHARE = 30, 300, 0.1
TASKS, SEED, VOCABULARY, AT_ONCE = 4, 20210111, 200_000, 20_000


def main() -> None:
    """Run three sizes, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="training rows")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.measure:
        return measure(said.measure)
    results = [run(said.rows // part) for part in (4, 2, 1)]
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
        planted = write(Path(folder), rows)
        command = [sys.executable, "-m", "benchmarks.overlap", "--measure", folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        raw = sum(path.stat().st_size for path in Path(folder).rglob("*.arrow"))
        return {"rows": rows, "planted": planted, "raw_mb": raw >> 20, **json.loads(done.stdout)}


def measure(folder: Path) -> None:
    """Print seconds, peak memory and rows found as JSON."""
    from muppet_dag.corpus import overlap

    folders = {path.name: path for path in sorted(folder.iterdir())}
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        facts = overlap.find(folders, Path(out))
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    found = sum(row["row"] + row["near"] for row in facts["matrix"])
    print(json.dumps({"seconds": round(seconds, 1), "peak_mb": peak, "found": found}))


def write(folder: Path, rows: int) -> int:
    """Shards of ``TASKS`` tasks; returns how many copies of evaluation rows were planted."""
    from muppet_dag.corpus.shards import ShardWriter

    draw = np.random.default_rng(SEED)
    words = vocabulary(draw)
    planted = 0
    for index in range(TASKS):
        (folder / f"task{index}").mkdir()
        train, validation = (
            ShardWriter(folder / f"task{index}", split) for split in ("train", "validation")
        )
        for at in range(0, rows // TASKS, AT_ONCE):
            count = min(AT_ONCE, rows // TASKS - at)
            held = texts(draw, words, max(1, count // EVALUATION))
            copies = held.slice(0, count // PLANTED)
            same = pc.binary_join_element_wise("- ", pc.utf8_upper(copies), "!", "")
            near = pc.replace_substring_regex(copies, r" \S+$", " changed", max_replacements=1)
            fresh = texts(draw, words, count - 2 * len(copies))
            validation.write(batch(held))
            train.write(batch(pa.concat_arrays([same, fresh, near])))
            planted += 2 * len(copies)
        train.close()
        validation.close()
    return planted


def vocabulary(draw: np.random.Generator) -> pa.Array:
    """Made-up words of 2 to 12 letters."""
    letters = draw.choice(np.frombuffer(b"etaoinshrdlucmwfgypbvk", np.uint8), (VOCABULARY, 12))
    lengths = np.clip(draw.poisson(4.5, VOCABULARY), 2, 12)
    return pa.array([bytes(w[:n]).decode() for w, n in zip(letters, lengths, strict=True)])


def texts(draw: np.random.Generator, words: pa.Array, count: int) -> pa.Array:
    """Texts whose words are as frequent as in a language (Zipf: 1 / rank)."""
    means = np.where(draw.random(count) < LONG_SHARE, LONG, SHORT)
    lengths = np.maximum(draw.poisson(means), 12)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ranks = (len(words) ** draw.random(ends[-1])).astype(np.int32) - 1
    rows = pa.ListArray.from_arrays(pa.array(ends), words.take(pa.array(ranks)))
    return pc.binary_join(rows, " ")


def batch(rows: pa.Array) -> pa.RecordBatch:
    """Rows of the unified schema that hold a text and nothing else."""
    from muppet_dag.corpus.schema import SCHEMA

    ids = pc.cast(pa.array(np.arange(len(rows))), pa.string())
    given = {"id": ids, "text": rows}
    columns = [given.get(f.name, pa.nulls(len(rows), f.type)) for f in SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


if __name__ == "__main__":
    main()
