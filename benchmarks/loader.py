"""The loader on one core: from token files to tensors, and how fast a late step is found.

``python -m benchmarks.loader [--rows 500000]``. Token rows are made up: eight tasks of single
texts, one of questions with four candidates, one of windows over passages, 88 tokens a row in the
mean; their mixture has the slots of the recipe ``muppet``. All its steps are read in order, without
the thread that reads ahead, several times over; the first time touches every page of the files
anew. Beside it the same slots, as batches of a torch ``DataLoader`` over ``datasets`` with
``DataCollatorWithPadding``, which reads only ``input_ids`` and ``label``, and the sequences of a
row as one. Useful tokens are counted on both sides. Each measurement has a process and one core;
where others use that core as well, tokens per second of its time compare better.

Then a loader is opened late in a mixture of 1.1 million steps, until its first step is there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.process import fresh
from benchmarks.table import show
from benchmarks.tokens import write_tasks

SEED = 20210111
#: How often all steps are read, and seconds that a peer gets.
ROUNDS, PEER_SECONDS = 5, 10.0
FORMATS = ("python", "numpy", "torch")
#: The long mixture: steps, slots of a step, rows of a slot; and the steps to look for.
STEPS, SLOTS, ROWS, LATE = 1_100_000, 2, 2, (0, 1_000, 1_000_000)


def main() -> None:
    """Write files, measure, print two tables and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="token rows in all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts, _ = fresh(write, Path(folder), args.rows)
        rounds, _ = fresh(ours, Path(folder))
        peers = {kind: fresh(peer, Path(folder), kind)[0] for kind in FORMATS}
        seconds = {step: fresh(seek, Path(folder), step)[0] for step in LATE}
    report(facts, rounds, peers, seconds)


def report(
    facts: dict[str, Any], rounds: list[Speed], peers: dict[str, Speed], seconds: dict[int, float]
) -> None:
    """What was measured, for people and for machines."""
    best = max(peers.values(), key=lambda speed: speed.core)
    speed = Speed(median(each.wall for each in rounds), median(each.core for each in rounds))
    print(
        f"{facts['rows']:,} rows of {facts['tokens'] / facts['rows']:.0f} tokens, "
        f"{facts['steps']} steps of {facts['slots'] / facts['steps']:.0f} slots"
    )
    ways = {"loader": speed, "loader, first time": rounds[0]}
    ways |= {f"DataLoader, datasets as {kind}": each for kind, each in peers.items()}
    show(
        ("", "tokens/s", "per core second", "of the fastest peer"),
        [
            (name, f"{each.wall:,.0f}", f"{each.core:,.0f}", f"{each.core / best.core:.1f} x")
            for name, each in ways.items()
        ],
    )
    show(("first step", "ms"), [(f"{s:,}", f"{1e3 * each:.1f}") for s, each in seconds.items()])
    results = {
        "tokens_per_second": round(speed.wall), "seek_seconds": round(seconds[max(LATE)], 4),
        "tokens_per_core_second": round(speed.core), "ratio": round(speed.core / best.core, 1),
    }  # fmt: skip
    print(json.dumps(results))


class Speed(NamedTuple):
    """Tokens per second, and per second that the core was at this process's disposal."""

    wall: float
    core: float


class Watch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self.wall, self.core = time.perf_counter(), time.process_time()

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.wall

    def speed(self, tokens: int) -> Speed:
        """Of so many tokens since the start."""
        return Speed(tokens / self.seconds(), tokens / (time.process_time() - self.core))


def ours(folder: Path) -> list[Speed]:
    """The loader's speed, for each time that all steps are read."""
    from muppet_dag.mixture.loader import Loader

    _one_core()
    loader, speeds = Loader(folder / "mixture", _tokens(folder)), []
    for _ in range(ROUNDS):
        watch, tokens = Watch(), 0
        for number in range(len(loader)):
            for each in loader.read(number).passes:
                tokens += sum(len(b.tensors()["input_ids"]) for _, b in each.slots)
        speeds.append(watch.speed(tokens))
    return speeds


def peer(folder: Path, kind: str) -> Speed:
    """The speed of a DataLoader over the same rows in the same batches."""
    import datasets
    import torch
    import transformers

    _one_core()
    files = _tokens(folder)
    tables = [_read(path / "train.arrow") for path in files.values()]
    first = dict(zip(files, np.cumsum([0, *map(len, tables)]).tolist(), strict=False))
    rows = pa.concat_tables([table.select(["input_ids", "label"]) for table in tables])
    rows = rows.set_column(1, "label", rows.column("label").fill_null(0))
    dataset = datasets.Dataset(rows).with_format(None if kind == "python" else kind)
    loader = torch.utils.data.DataLoader(
        dataset, batch_sampler=_slots(folder, first),
        collate_fn=transformers.DataCollatorWithPadding(_tokenizer()),
    )  # fmt: skip
    watch, tokens = Watch(), 0
    for batch in loader:
        tokens += int(batch["attention_mask"].sum())
        if watch.seconds() > PEER_SECONDS:
            break
    return watch.speed(tokens)


def seek(folder: Path, step: int) -> float:
    """Seconds from nothing to the tensors of a step, in the long mixture."""
    import torch  # noqa: F401  a training process has it loaded

    from muppet_dag.mixture.loader import Loader

    _one_core()
    tokens = _tokens(folder)
    watch = Watch()
    step_read = next(iter(Loader(folder / "long", tokens, start=step)))
    tensors = [batch.tensors() for each in step_read.passes for _, batch in each.slots]
    seconds = watch.seconds()
    if step_read.number != step or len(tensors) != SLOTS:
        raise AssertionError(f"step {step} was asked for, {step_read.number} was found")
    return seconds


def write(folder: Path, rows: int) -> dict[str, Any]:
    """Token files, their mixture and the long one; returns the facts of the first."""
    from muppet_dag import recipes
    from muppet_dag.mixture.index import FILE, Sizes, build

    draw = np.random.default_rng(SEED)
    tasks = write_tasks(draw, folder / "tokens", rows)
    (folder / "mixture").mkdir()
    (folder / "long").mkdir()
    sizes = {name: Sizes.read(path) for name, path in _tokens(folder).items()}
    slots = replace(recipes.get("muppet").mixture, epochs=1)
    facts = build(sizes, slots, SEED, folder / "mixture")
    slot = np.repeat(np.arange(STEPS * SLOTS, dtype=np.int32), ROWS)
    task = draw.integers(0, tasks, STEPS * SLOTS).astype(np.int16)
    table = pa.table(
        {
            "step": slot // SLOTS,
            "slot": slot % SLOTS,
            "task": pa.DictionaryArray.from_arrays(np.repeat(task, ROWS), sorted(sizes)),
            "row": draw.integers(0, rows // tasks, len(slot)).astype(np.int32),
        }
    )
    with pa.ipc.new_file(str(folder / "long" / FILE), table.schema) as writer:
        writer.write_table(table)
    return facts


def _tokens(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted((folder / "tokens").iterdir())}


def _read(path: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def _slots(folder: Path, first: dict[str, int]) -> list[list[int]]:
    """Rows of each slot of the mixture, counted over all tasks one after the other."""
    from muppet_dag.mixture.index import FILE

    table = _read(folder / "mixture" / FILE)
    task = table.column("task").combine_chunks()
    starts = np.array([first[name] for name in task.dictionary.to_pylist()])
    rows = starts[task.indices.to_numpy()] + table.column("row").to_numpy()
    bounds = np.flatnonzero(np.diff(table.column("slot").to_numpy())) + 1
    return [each.tolist() for each in np.split(rows, bounds)]


def _tokenizer() -> Any:
    """A tokenizer that can pad."""
    import tokenizers
    import transformers

    model = tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model), pad_token="[PAD]", unk_token="[UNK]"
    )


def _one_core() -> None:
    """This process runs on one core, its libraries in one thread."""
    import torch

    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


if __name__ == "__main__":
    main()
