"""A task as an endless stream of slots.

A task-epoch is all rows of a task's pool once, in random order. It is divided into windows of about
``bucket_slots`` slots; inside a window rows are sorted by length, so that rows of a slot pad little
while the order stays random on any larger scale. Slots are cut from windows greedily, and come in
random order. No slot crosses a window, and no window a task-epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from muppet_dag.errors import BadConfig
from muppet_dag.mixture.sizes import Sizes, shuffled
from muppet_dag.recipes import MixtureSection

#: A slot: number of its task; where its rows start in the rows of its stream, and how many they
#: are; the longest sequence; tokens without and with padding.
SLOT = np.dtype(
    [("task", "i2"), ("start", "i8"), ("rows", "i4"), ("width", "i4"), ("tokens", "i8"),
     ("padded", "i8")]
)  # fmt: skip
#: Rows worked on at once, so that what that takes does not grow with a task.
BLOCK = 1 << 20


class Stream:
    """The slots of one task, cut as they are asked for; all depends on task and seed alone."""

    def __init__(
        self, number: int, name: str, sizes: Sizes, spec: MixtureSection, seed: str
    ) -> None:
        self.number, self.name, self.sizes, self.spec, self.seed = number, name, sizes, spec, seed
        # Whole epochs are whole in any unit but slots, of which each epoch has its own number.
        self._unit = "rows" if spec.strategy == "natural" else spec.weight_unit
        self.epochs = 0
        self.slots = np.zeros(0, SLOT)
        self._rows: list[np.ndarray] = []
        self._ends = np.zeros(0, np.int64)
        self.pool = self._measure()

    def reach(self, amount: int) -> int:
        """How many slots hold ``amount`` rows (tokens or slots, as ``weight_unit`` says) or just
        more."""
        while (missing := amount - int(self._ends[-1] if self.epochs else 0)) > 0:
            # A small task is asked often: go as far again as it went, while that costs nothing.
            epochs = -(-missing // self.pool)
            self._extend(max(epochs, min(self.epochs, BLOCK // len(self.sizes))))
        return int(np.searchsorted(self._ends, amount)) + 1 if amount else 0

    def _measure(self) -> int:
        """How many rows, tokens or slots an epoch holds; of slots, the first one."""
        if self._unit != "slots":
            return self.sizes.pool(self._unit)
        if len(self.sizes):
            self._extend(1)
        return len(self.slots)

    def take_rows(self) -> np.ndarray:
        """Numbers of the rows of all slots, int32; they are handed over and no longer held."""
        rows, self._rows = self._rows, []
        return np.concatenate([np.zeros(0, np.int32), *rows])

    def _extend(self, epochs: int) -> None:
        numbers = range(self.epochs, self.epochs + epochs)
        rows, slots = cut(self.name, self.sizes, self.spec, self.seed, numbers)
        slots["task"] = self.number
        slots["start"] += sum(map(len, self._rows))
        self._rows.append(rows)
        self.slots = np.concatenate([self.slots, slots])
        slots = self._unit == "slots"
        amounts = np.ones(len(self.slots), np.int64) if slots else self.slots[self._unit]
        self._ends = np.cumsum(amounts)
        self.epochs += epochs


def cut(
    name: str, sizes: Sizes, spec: MixtureSection, seed: str, epochs: range
) -> tuple[np.ndarray, np.ndarray]:
    """Some task-epochs as rows, int32, and slots, ``SLOT``, in order of use.

    Raises BadConfig if a single row is larger than a slot may be.
    """
    rows = np.concatenate([shuffled(len(sizes), seed, name, e, "rows") for e in epochs])
    slots = np.concatenate([
        _cut_block(name, sizes, spec, rows, bounds)
        for bounds in _blocks(_windows(sizes, spec, len(epochs)))
    ])  # fmt: skip
    firsts = np.searchsorted(slots["start"], np.arange(len(epochs) + 1) * len(sizes))
    counts = zip(epochs, firsts[:-1], np.diff(firsts), strict=True)
    order = [first + shuffled(count, seed, name, e, "slots") for e, first, count in counts]
    return rows if sizes.rows is None else sizes.rows[rows], slots[np.concatenate(order)]


def _windows(sizes: Sizes, spec: MixtureSection, epochs: int) -> np.ndarray:
    """Where windows start, and the last one's end: as many rows in each, give or take one."""
    typical = int(spec.slot_tokens / max(1.0, sizes.tokens.mean()))
    window = spec.bucket_slots * max(1, min(spec.slot_rows, typical))
    count = max(1, round(len(sizes) / window))
    starts = np.arange(count) * len(sizes) // count
    starts = np.arange(epochs)[:, None] * len(sizes) + starts
    return np.append(starts.ravel(), epochs * len(sizes))


def _blocks(bounds: np.ndarray) -> Iterator[np.ndarray]:
    """Neighbouring windows, about ``BLOCK`` rows of them at a time."""
    edges = np.searchsorted(bounds, np.arange(0, bounds[-1], BLOCK))
    edges = np.append(np.unique(edges), len(bounds) - 1)
    for low, high in pairwise(edges):
        if low < high:
            yield bounds[low : high + 1]


def _cut_block(
    name: str, sizes: Sizes, spec: MixtureSection, rows: np.ndarray, bounds: np.ndarray
) -> np.ndarray:
    """Sort the rows of some windows where they lie, and cut all these windows in lockstep."""
    first, bounds = bounds[0], bounds - bounds[0]
    mine = rows[first : first + bounds[-1]]
    width, target = _sort(mine, bounds, sizes)
    sequences = sizes.sequences[mine]
    _check_fits(name, sizes, mine, width * sequences + target, spec)
    before = np.append(0, np.cumsum(sequences, dtype=np.int64))
    tallest, parts = _tallest(target, spec.slot_rows), []
    at, end = bounds[:-1], bounds[1:]
    while len(at):
        count, padded = _fill(at, end, width, before, tallest, spec)
        parts.append((at, count, padded))
        going = at + count < end
        at, end = (at + count)[going], end[going]
    start, count, padded = (np.concatenate(part) for part in zip(*parts, strict=True))
    slots = np.zeros(len(start), SLOT)
    slots["start"], slots["rows"], slots["padded"] = start, count, padded
    slots["width"] = width[start + count - 1]
    slots = slots[np.argsort(start)]
    slots["tokens"] = np.add.reduceat(sizes.tokens[mine], slots["start"], dtype=np.int64)
    slots["start"] += first
    return slots


def _sort(rows: np.ndarray, bounds: np.ndarray, sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows by width, then target, inside each window; returns these two.

    Window, width, target and place in the window are packed into one number: sorting plain numbers
    is several times as fast as sorting by several keys. The place keeps rows of one size in random
    order.
    """
    count = np.diff(bounds)
    first = np.repeat(bounds[:-1], count)
    place = np.arange(len(rows)) - first
    bits = int(count.max()).bit_length()
    key = np.repeat(np.arange(len(count), dtype=np.uint64), count)
    for part, size in ((sizes.width[rows], 16), (sizes.target[rows], 16), (place, bits)):
        key <<= np.uint64(size)
        key |= part.astype(np.uint64)
    key.sort()
    rows[:] = rows[first + (key & np.uint64((1 << bits) - 1)).astype(np.int64)]
    key >>= np.uint64(bits)
    target = key.astype(np.uint16)  # the lowest bits
    key >>= np.uint64(16)
    return key.astype(np.uint16).astype(np.int64), target


def _tallest(target: np.ndarray, slot_rows: int) -> list[np.ndarray]:
    """For each level the greatest target of the 2^level rows from each row on."""
    levels = [target]
    for level in range(slot_rows.bit_length() - 1):
        half, last = 1 << level, levels[-1]
        levels.append(last.copy())
        np.maximum(last[:-half], last[half:], out=levels[-1][:-half])
    return levels


def _fill(
    at: np.ndarray,
    end: np.ndarray,
    width: np.ndarray,
    before: np.ndarray,
    tallest: list[np.ndarray],
    spec: MixtureSection,
) -> tuple[np.ndarray, np.ndarray]:
    """The longest slots that start at ``at`` and fit: their rows and padded tokens.

    The padded size of rows i..j is (their sequences) x (their greatest width) + (their count) x
    (their greatest target), which is what the model is given. It only grows with j, so a slot is
    found by halving: it grows by 2^level rows wherever it still fits then.
    """
    limit, first = np.minimum(at + spec.slot_rows, end), before[at]
    stop, padded, tall = at, np.zeros_like(at), np.zeros_like(at)
    for level in reversed(range(len(tallest))):
        # Past the limit any value will do, since nothing there is taken.
        more = stop + (1 << level)
        high = np.maximum(tall, tallest[level].take(stop, mode="clip"))
        sequences = before.take(more, mode="clip") - first
        size = sequences * width.take(more - 1, mode="clip") + (more - at) * high
        fits = (more <= limit) & (size <= spec.slot_tokens)
        stop, padded = np.where(fits, more, stop), np.where(fits, size, padded)
        tall = np.where(fits, high, tall)
    return stop - at, padded


def _check_fits(
    name: str, sizes: Sizes, rows: np.ndarray, cost: np.ndarray, spec: MixtureSection
) -> None:
    """``cost`` is the padded size of each row in a slot of its own."""
    if cost.max() > spec.slot_tokens:
        row = rows[cost.argmax()]
        raise BadConfig(
            f"task {name!r}: token row {row if sizes.rows is None else sizes.rows[row]} takes "
            f"{cost.max()} tokens, a slot may hold {spec.slot_tokens}. Raise mixture.slot_tokens "
            "or lower model.max_length."
        )
