"""The mixture: a table of ``step, slot, task, row`` in the order of use.

A slot is a micro-batch of one task under a budget of tokens and rows; a step is one optimizer
update over several slots of any tasks (Muppet 3.2, 3.4: batches are heterogeneous across tasks and
drawn from the pool of all batches). The table is a pure function of the recipe's mixture section,
the token rows and the seed. The number of workers is no input.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.recipes import MixtureSection

#: Raise when the same inputs would give another order; old runs keep theirs.
VERSION = "1"

FILE = "mixture.arrow"


@dataclass(frozen=True)
class Sizes:
    """What slots are cut by, per token row: shape (rows,) each.

    ``width`` is the longest sequence, ``sequences`` how many there are (candidates of a question),
    ``target`` the length of a summary, 0 elsewhere; ``tokens`` counts all that is not padding.
    Rows where ``keep`` is false are never drawn; without it all are.
    """

    width: np.ndarray
    sequences: np.ndarray
    target: np.ndarray
    tokens: np.ndarray
    keep: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.width)

    @property
    def cost(self) -> np.ndarray:
        """Padded tokens of a slot that holds this row alone, shape (rows,)."""
        return self.width.astype(np.int64) * self.sequences + self.target

    @property
    def drawn(self) -> int:
        """How many rows an epoch holds."""
        return len(self) if self.keep is None else int(self.keep.sum())

    @classmethod
    def read(
        cls, tokens: Path, split: str = "train", *, without: np.ndarray | None = None
    ) -> Sizes:
        """Read the size columns of a token file; its ids are not touched.

        ``without`` holds numbers of shard rows; every token row (window) of theirs is kept out.
        """
        reader = pa.ipc.open_file(pa.memory_map(str(Path(tokens) / f"{split}.arrow")))
        table = reader.read_all()
        sizes = table.select(["width", "sequences", "target_length", "tokens"])
        keep = None
        if without is not None and len(without):
            keep = ~np.isin(table.column("example").to_numpy(), without)
        return cls(*(column.to_numpy() for column in sizes.columns), keep)


def build(
    tasks: Mapping[str, Sizes], spec: MixtureSection, seed: int, folder: Path
) -> dict[str, Any]:
    """Write ``mixture.arrow`` into ``folder``; returns the facts for the manifest.

    Raises BadConfig if a single row is larger than a slot may be.
    """
    names = sorted(tasks)
    if not names:
        raise MuppetError("a mixture needs at least one task with tokens; none is there yet")
    table = draw({name: tasks[name] for name in names}, spec, seed)
    with pa.ipc.new_file(str(Path(folder) / FILE), table.schema) as writer:
        writer.write_table(table)
    return describe(table, tasks)


def draw(tasks: Mapping[str, Sizes], spec: MixtureSection, seed: int) -> pa.Table:
    """The mixture as a table with columns step, slot (int32), task (dictionary), row (int32).

    A longer budget starts with the same steps. An epoch holds every row that is kept exactly once;
    keeping rows out leaves the random order of the others as it was.
    """
    if not any(sizes.drawn for sizes in tasks.values()):
        raise MuppetError(f"no row is left to draw from {', '.join(tasks)}")
    wanted = None if spec.steps is None else spec.steps * spec.slots_per_step
    epochs, slots, epoch = [], 0, 0
    while slots < wanted if wanted is not None else epoch < spec.epochs:
        epochs.append(_epoch(tasks, spec, seed, epoch))
        slots += len(epochs[-1].task)
        epoch += 1
    return _table(list(tasks), _Slots.join(epochs).first(wanted), spec.slots_per_step)


@dataclass(frozen=True)
class _Slots:
    """Slots in order: ``task`` and ``size`` have one entry a slot, ``row`` one entry a row."""

    task: np.ndarray
    size: np.ndarray
    row: np.ndarray

    @classmethod
    def join(cls, parts: list[_Slots]) -> _Slots:
        return cls(
            *(np.concatenate([getattr(p, f) for p in parts]) for f in ("task", "size", "row"))
        )

    def first(self, slots: int | None) -> _Slots:
        size = self.size[:slots]
        return _Slots(self.task[:slots], size, self.row[: size.sum()])

    def ordered(self, order: np.ndarray) -> _Slots:
        """The same slots in another order."""
        starts = np.cumsum(self.size) - self.size
        size = self.size[order]
        ends = np.cumsum(size)
        # A ragged gather: for each slot in its new place, the rows start, start + 1, …
        at = np.arange(ends[-1]) + np.repeat(starts[order] - (ends - size), size)
        return _Slots(self.task[order], size, self.row[at])


def _epoch(tasks: Mapping[str, Sizes], spec: MixtureSection, seed: int, epoch: int) -> _Slots:
    """All rows of all tasks once, cut into slots, the slots in random order."""
    parts = []
    for index, (name, sizes) in enumerate(tasks.items()):
        rows = _bucketed(sizes, spec, _generator(seed, name, epoch))
        size = _cut(name, sizes, rows, spec)
        parts.append(_Slots(np.full(len(size), index, np.int16), size, rows))
    slots = _Slots.join(parts)
    return slots.ordered(_generator(seed, "", epoch).permutation(len(slots.task)))


def _bucketed(sizes: Sizes, spec: MixtureSection, generator: np.random.Generator) -> np.ndarray:
    """A random order of rows, sorted by size inside windows of about ``bucket_slots`` slots."""
    rows = generator.permutation(len(sizes)).astype(np.int32)
    if sizes.keep is not None:
        rows = rows[sizes.keep[rows]]
    typical = max(1, int(np.median(sizes.cost)))
    window = spec.bucket_slots * max(1, min(spec.slot_rows, spec.slot_tokens // typical))
    key = (sizes.width.astype(np.int64) << 32) + (sizes.sequences.astype(np.int64) << 16)
    order = np.lexsort(((key + sizes.target)[rows], np.arange(len(rows)) // window))
    return rows[order]


def _cut(name: str, sizes: Sizes, rows: np.ndarray, spec: MixtureSection) -> np.ndarray:
    """Cut ordered rows greedily into slots; returns the number of rows of each.

    The padded size of rows i..j is (their sequences) x (their greatest width) + (their count) x
    (their greatest target), which is what the model will be given.
    """
    width, sequences, target = (
        np.asarray(each, np.int64)[rows] for each in (sizes.width, sizes.sequences, sizes.target)
    )
    if len(rows) and sizes.cost[rows].max() > spec.slot_tokens:
        row = int(rows[sizes.cost[rows].argmax()])
        raise BadConfig(
            f"task {name!r}: token row {row} takes {sizes.cost[row]} tokens, a slot may hold "
            f"{spec.slot_tokens}. Raise mixture.slot_tokens or lower model.max_length."
        )
    counts, out, at = np.arange(1, spec.slot_rows + 1), [], 0
    while at < len(rows):
        span = slice(at, at + spec.slot_rows)
        wide = np.maximum.accumulate(width[span])
        long = np.maximum.accumulate(target[span])
        padded = np.cumsum(sequences[span]) * wide + counts[: len(wide)] * long
        out.append(int(np.searchsorted(padded, spec.slot_tokens, side="right")))
        at += out[-1]
    return np.array(out, np.int64)


def _table(names: list[str], slots: _Slots, per_step: int) -> pa.Table:
    index = np.arange(len(slots.task))
    task = pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(slots.task, slots.size)), pa.array(names)
    )
    return pa.table(
        {
            "step": np.repeat((index // per_step).astype(np.int32), slots.size),
            "slot": np.repeat((index % per_step).astype(np.int32), slots.size),
            "task": task,
            "row": slots.row,
        }
    )


def describe(table: pa.Table, tasks: Mapping[str, Sizes]) -> dict[str, Any]:
    """Facts: steps, slots, rows (in all and by task), tokens without and with padding, epochs."""
    task = table.column("task").combine_chunks()
    names, index = task.dictionary.to_pylist(), task.indices.to_numpy()
    row, step, slot = (table.column(name).to_numpy() for name in ("row", "step", "slot"))
    size = np.zeros((4, len(row)), np.int64)
    for i, name in enumerate(names):
        mine, sizes = index == i, tasks[name]
        columns = (sizes.width, sizes.sequences, sizes.target, sizes.tokens)
        size[:, mine] = np.stack([column[row[mine]] for column in columns])
    width, sequences, target, tokens = size
    starts = np.flatnonzero(np.r_[True, (np.diff(slot) != 0) | (np.diff(step) != 0)])
    padded = np.add.reduceat(sequences, starts) * np.maximum.reduceat(width, starts)
    padded += np.diff(np.r_[starts, len(row)]) * np.maximum.reduceat(target, starts)
    return {
        "steps": int(step[-1]) + 1,
        "slots": len(starts),
        "rows": len(row),
        "rows_by_task": dict(
            zip(names, np.bincount(index, minlength=len(names)).tolist(), strict=True)
        ),
        "tokens": int(tokens.sum()),
        "padded_tokens": int(padded.sum()),
        "epochs": round(len(row) / sum(sizes.drawn for sizes in tasks.values()), 4),
    }


def _generator(seed: int, name: str, epoch: int) -> np.random.Generator:
    """A counter-based generator of its own for each (seed, task, epoch)."""
    key = hashlib.sha256(f"{VERSION}/{seed}/{name}/{epoch}".encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "big")))
