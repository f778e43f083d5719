"""From sizes of token rows to a mixture on disk, against what ``datasets`` offers for mixing.

``python -m benchmarks.mixture [--rows 4100000] [--most 100000000]``. Tasks are as large as those of
the catalogue that the recipe ``muppet-bart`` mixes, brought to ``--rows`` in all; lengths are
log-normal with a mean of 88 tokens and at most 512. Ours is ``mixture.index.build``: the order of
rows, bucketing by length, cutting into slots under a budget, steps, and the file. The others, over
columns that lie in memory, give an order of rows and nothing else:

- interleave_without_replacement: ``interleave_datasets`` with the tasks' shares as probabilities,
  each row once (``all_exhausted_without_replacement``);
- interleave_all_exhausted: the same until every task was used up, small ones coming again;
- concatenate_shuffle: ``concatenate_datasets(...).shuffle()``.

Then a tenth, half and all of ``--most`` rows show what more rows cost. Each measurement has a
process of its own, for its peak memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import fresh
from benchmarks.table import show

TASKS, MEAN, MOST, SPREAD = 47, 88, 512, 0.8
RUNS, SEED = 5, 20210111
PEERS = ("interleave_without_replacement", "interleave_all_exhausted", "concatenate_shuffle")


def main() -> None:
    """Ours and theirs at one size, then ours at three more; a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4_100_000, help="training rows in all")
    parser.add_argument("--most", type=int, default=100_000_000, help="rows of the largest mixture")
    args = parser.parse_args()
    ours, peak = fresh(build, args.rows, RUNS)
    lines = [("muppet-dag", args.rows, ours, peak)]
    peers = {name: fresh(mix, name, args.rows) for name in PEERS}
    lines += [(name, args.rows, seconds, peak) for name, (seconds, peak) in peers.items()]
    for part in (10, 2, 1):
        lines.append(("muppet-dag", args.most // part, *fresh(build, args.most // part, 1)))
    show(
        ("", "rows", "seconds", "µs/row", "peak MB", "ours is"),
        [
            (name, f"{rows:,}", f"{seconds:.2f}", f"{seconds / rows * 1e6:.3f}", f"{peak:,}",
             f"{seconds / ours:.1f} x" if name in PEERS else "")
            for name, rows, seconds, peak in lines
        ],
    )  # fmt: skip
    print(json.dumps({
        "rows": args.rows,
        "seconds": round(ours, 3),
        "peer_seconds": {name: round(seconds, 3) for name, (seconds, _) in peers.items()},
        "seconds_100m": round(lines[-1][2], 2),
        "peak_mb_100m": lines[-1][3],
    }))  # fmt: skip


def build(rows: int, runs: int) -> float:
    """Median seconds from sizes in memory to a file of the mixture."""
    from muppet_dag.mixture import index
    from muppet_dag.recipes import SHIPPED, load

    spec = replace(load(SHIPPED / "muppet.toml").mixture, steps=None, epochs=1)
    sizes, taken = sizes_of(rows), []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            facts = index.build(sizes, spec, SEED, Path(folder))
            taken.append(time.perf_counter() - start)
        assert facts["rows"] == rows, facts["rows"]
    return statistics.median(taken)


def mix(name: str, rows: int) -> float:
    """Seconds that one way of ``datasets`` takes."""
    import datasets

    counts = counts_of(rows)
    parts = [datasets.Dataset.from_dict({"row": np.arange(count)}) for count in counts.values()]
    start = time.perf_counter()
    mixed = _THEIRS[name](datasets, parts, rows)
    seconds = time.perf_counter() - start
    assert len(mixed) >= rows, len(mixed)
    return seconds


def _interleaved(strategy: str) -> Callable[[Any, list, int], Any]:
    def run(datasets: Any, parts: list, rows: int) -> Any:
        shares = [len(part) / rows for part in parts]
        return datasets.interleave_datasets(
            parts, probabilities=shares, seed=SEED, stopping_strategy=strategy
        )

    return run


_THEIRS: dict[str, Callable[[Any, list, int], Any]] = {
    "interleave_without_replacement": _interleaved("all_exhausted_without_replacement"),
    "interleave_all_exhausted": _interleaved("all_exhausted"),
    "concatenate_shuffle": lambda datasets, parts, _: datasets.concatenate_datasets(parts).shuffle(
        seed=SEED
    ),
}


def counts_of(rows: int) -> dict[str, int]:
    """How many rows each task has."""
    from muppet_dag.catalogue import TASKS as CATALOGUE
    from muppet_dag.recipes import SHIPPED, load

    names = load(SHIPPED / "muppet-bart.toml").select(CATALOGUE)
    official = {name: CATALOGUE[name].rows["train"] for name in names}
    largest = sorted(official, key=lambda name: (-official[name], name))[:TASKS]
    whole = sum(official[name] for name in largest)
    counts = {name: max(1, official[name] * rows // whole) for name in largest}
    counts[largest[0]] += rows - sum(counts.values())
    return counts


def sizes_of(rows: int) -> dict[str, Any]:
    """Sizes of single texts, by task."""
    from muppet_dag.mixture.sizes import Sizes

    draw, out = np.random.default_rng(SEED), {}
    middle = np.log(MEAN) - SPREAD**2 / 2 + 0.02  # what the cut at MOST takes from the mean
    for name, count in counts_of(rows).items():
        width = draw.standard_normal(count, dtype=np.float32)
        width = np.exp(width * np.float32(SPREAD) + np.float32(middle)).clip(4, MOST)
        width = width.astype(np.uint16)
        one = np.ones(count, np.uint16)
        out[name] = Sizes(width, one, np.zeros(count, np.uint16), width.astype(np.int32))
    return out


if __name__ == "__main__":
    main()
