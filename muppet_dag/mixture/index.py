"""The mixture: a table of ``step, slot, task, row`` in the order of use.

A slot is a micro-batch of one task under a budget of tokens and rows; a step is one optimizer
update over several slots of any tasks (Muppet 3.2, 3.4: batches are heterogeneous across tasks and
drawn from the pool of all batches). The table is a pure function of the recipe's mixture section,
the token rows and the seed. The number of workers is no input.

Each task is a stream of slots that goes on for ever, one task-epoch after the other. The strategy
says only how many slots of each stream a round takes, and the batching in which order; so no row
comes again before all rows of its task were used, whatever they are, and a longer budget starts
with the same steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.sizes import Sizes
from muppet_dag.mixture.slots import SLOT, Stream
from muppet_dag.mixture.strategies import arrange, shares
from muppet_dag.mixture.tokens import ragged
from muppet_dag.recipes import MixtureSection

__all__ = ["FILE", "VERSION", "Sizes", "build", "draw"]

#: Raise when the same inputs would give another order; old runs keep theirs.
VERSION = "2"

FILE = "mixture.arrow"


def build(
    tasks: Mapping[str, Sizes], spec: MixtureSection, seed: int, folder: Path
) -> dict[str, Any]:
    """Write ``mixture.arrow`` into ``folder``; returns the facts for the manifest.

    Raises BadConfig if a single row is larger than a slot may be, or a weight is missing.
    """
    batch, facts = draw(tasks, spec, seed)
    # One record batch, so that a reader sees each column as one piece of the mapped file.
    with pa.ipc.new_file(str(Path(folder) / FILE), batch.schema) as writer:
        writer.write_batch(batch)
    return facts


def draw(
    tasks: Mapping[str, Sizes], spec: MixtureSection, seed: int
) -> tuple[pa.RecordBatch, dict[str, Any]]:
    """The mixture and its facts; columns step, slot (int32), task (dictionary), row (int32).

    The facts are steps, slots, rows, tokens without and with padding, epochs (rows over rows of
    the pool), and by task: rows, share of all rows, share of all slots (that is, of the updates,
    which average over slots), and passes (how often its pool was used).
    """
    if not tasks:
        raise MuppetError("a mixture needs at least one task with tokens; none is there yet")
    names, key = sorted(tasks), f"{VERSION}/{seed}"
    pools = [tasks[n].capped(spec.caps.get(n, spec.cap), key, n) for n in names]
    if not any(map(len, pools)):
        raise MuppetError(f"no row is left to draw from {', '.join(names)}")
    streams = [Stream(i, names[i], sizes, spec, key) for i, sizes in enumerate(pools)]
    slots, step = _in_order(streams, spec, key)
    facts = _facts(names, list(map(len, pools)), slots, int(step[-1]) + 1)
    return _table(names, slots, step, _rows(streams, slots)), facts


def _in_order(
    streams: Sequence[Stream], spec: MixtureSection, key: str
) -> tuple[np.ndarray, np.ndarray]:
    """All slots in the order of use, ``SLOT``, and the step of each.

    After round n, task i has given the nearest to n x share x pool rows (tokens, slots) that whole
    slots allow, so that shares hold over the whole run, and what a slot gives too much is not given
    later.
    """
    pool = np.array([stream.pool for stream in streams])
    goal = shares([stream.name for stream in streams], pool, spec) * pool.sum()
    taken, rounds, begins, steps = np.zeros(len(pool), np.int64), [], [], 0
    # A step is whole when the next one has begun.
    while len(rounds) < spec.epochs if spec.steps is None else steps <= spec.steps:
        number = len(rounds) + 1
        amounts = np.rint(goal * number).astype(np.int64)
        until = np.array([s.reach(int(n)) for s, n in zip(streams, amounts, strict=True)])
        task, begin = arrange(until - taken, spec, int(taken.sum()), key, number)
        rounds.append(_next(streams, task, taken, until))
        begins.append(begin)
        taken, steps = until, steps + int(begin.sum())
    return _steps(np.concatenate(rounds), np.concatenate(begins), spec.steps)


def _next(
    streams: Sequence[Stream], task: np.ndarray, taken: np.ndarray, until: np.ndarray
) -> np.ndarray:
    """The streams' next slots in an order of tasks: the k-th of a task is its k-th."""
    slots = np.empty(len(task), SLOT)
    parts = [s.slots[a:b] for s, a, b in zip(streams, taken, until, strict=True)]
    slots[np.argsort(task, kind="stable")] = np.concatenate(parts)
    return slots


def _steps(
    slots: np.ndarray, begins: np.ndarray, budget: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """The slots of as many steps as there may be, and the step of each.

    Slots of like width are neighbours in their step: those that share a forward pass pad little,
    and workers that take every n-th pass have about as much to do.
    """
    step = np.cumsum(begins, dtype=np.int32) - 1
    last = len(step) if budget is None else int(np.searchsorted(step, budget))
    slots, step = slots[:last], step[:last]
    return slots[np.lexsort((slots["task"], slots["width"], step))], step


def _rows(streams: Sequence[Stream], slots: np.ndarray, at_once: int = 1 << 14) -> np.ndarray:
    """Numbers of the rows of all slots in order, int32; takes the rows out of the streams."""
    parts = [stream.take_rows() for stream in streams]
    first = np.cumsum([0, *map(len, parts)])
    source = np.concatenate(parts)
    del parts
    out, done = np.empty(int(slots["rows"].sum(dtype=np.int64)), np.int32), 0
    for low in range(0, len(slots), at_once):
        some = slots[low : low + at_once]
        at = ragged(first[some["task"]] + some["start"], some["rows"])
        out[done : done + len(at)] = source[at]
        done += len(at)
    return out


def _table(
    names: list[str], slots: np.ndarray, step: np.ndarray, rows: np.ndarray
) -> pa.RecordBatch:
    number = (np.arange(len(step)) - np.searchsorted(step, step)).astype(np.int32)  # in its step
    step, slot, task = (np.repeat(each, slots["rows"]) for each in (step, number, slots["task"]))
    names = pa.array(names, pa.string())
    task = pa.DictionaryArray.from_arrays(pa.array(task), names)
    return pa.record_batch({"step": step, "slot": slot, "task": task, "row": rows})


def _facts(names: list[str], pools: list[int], slots: np.ndarray, steps: int) -> dict[str, Any]:
    rows = np.bincount(slots["task"], slots["rows"], len(names)).astype(int).tolist()
    of_slots = np.bincount(slots["task"], minlength=len(names)) / len(slots)
    total = sum(rows)
    by_task = list(zip(names, rows, pools, strict=True))
    return {
        "steps": steps,
        "slots": len(slots),
        "rows": total,
        "rows_by_task": {name: n for name, n, _ in by_task},
        "shares": {name: round(n / total, 6) for name, n, _ in by_task},
        "slot_shares": dict(zip(names, of_slots.round(6).tolist(), strict=True)),
        "passes": {name: round(n / max(1, pool), 4) for name, n, pool in by_task},
        "tokens": int(slots["tokens"].sum()),
        "padded_tokens": int(slots["padded"].sum()),
        "epochs": round(total / sum(pools), 4),
    }
