"""The loader: step by step, the passes that one rank runs, read ahead.

A pass is a few neighbouring slots of a step: what goes through the model at once. Rank r of W runs
passes r, r + W, … of every step, so any number of workers takes the same updates, with the same
slots together. The only state is the step to start from, and finding it is a binary search.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.batch import Batch, Tokens, collate
from muppet_dag.mixture.index import FILE

#: Steps that wait, ready, while one is trained on.
AHEAD = 2


@dataclass(frozen=True)
class Pass:
    """Slots (number and batch) that share a forward pass.

    One that does not count is there so that all ranks have as many: its loss is to be multiplied
    by 0.
    """

    slots: list[tuple[int, Batch]]
    counts: bool = True


@dataclass(frozen=True)
class Step:
    """One update: this rank's passes, and how many slots all ranks have together."""

    number: int
    passes: list[Pass]
    total_slots: int


class Loader:
    """Iterate over the steps of a mixture from ``start``; the next ones are read ahead.

    ``slots_per_pass`` slots make a pass, the last one of a step may have fewer. With ``even`` every
    rank gets equally many passes of each step, at least one: where they do not suffice, the step's
    first pass comes again and does not count (workers that share weights must all take part in
    every pass). With ``pin`` the batches' tensors are made ahead, in pinned memory.

    MuppetError names the step and the task whose rows cannot be read.
    """

    def __init__(
        self,
        mixture: Path,
        tokens: Mapping[str, Path],
        *,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        slots_per_pass: int = 1,
        even: bool = False,
        pin: bool = False,
    ) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(str(Path(mixture) / FILE))).read_all()
        self._steps = _parts(self._table.column("step"))
        self.tasks: list[str] = self._table.column("task").chunk(0).dictionary.to_pylist()
        missing = sorted(set(self.tasks) - set(tokens))
        if missing:
            raise MuppetError(f"mixture {mixture}: no tokens for {', '.join(missing)}")
        self._paths, self._tokens = dict(tokens), dict[str, Tokens]()
        self.start, self.rank, self.world = start, rank, world
        self.slots_per_pass, self.even, self.pin = slots_per_pass, even, pin

    def __len__(self) -> int:
        """Steps of the whole mixture, wherever this loader starts."""
        return int(self._steps[-1][-1]) + 1

    def __iter__(self) -> Iterator[Step]:
        reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        waiting: deque[Future[Step]] = deque()
        try:
            for number in range(self.start, len(self)):
                waiting.append(reader.submit(self.read, number))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also when the one who iterates stops early
            reader.shutdown(cancel_futures=True)

    def read(self, number: int) -> Step:
        """The passes of one step that this rank runs."""
        slots = self._slots(number)
        shares = self._share(len(slots))
        mine = {each: slots[each] for numbers, _ in shares for each in numbers}
        batches = self._batches(number, mine)
        passes = [Pass([(each, batches[each]) for each in numbers], c) for numbers, c in shares]
        return Step(number, passes, len(slots))

    def _slots(self, number: int) -> list[tuple[str, np.ndarray]]:
        """Task and rows of every slot of a step."""
        first, end = self._find(number), self._find(number + 1)
        table = self._table.slice(first, end - first)
        slot, task, row = (
            np.concatenate(_parts(table.column(name))) for name in ("slot", "task", "row")
        )
        bounds = np.flatnonzero(np.diff(slot, prepend=-1, append=-1)).tolist()
        return [(self.tasks[task[low]], row[low:high]) for low, high in pairwise(bounds)]

    def _find(self, number: int) -> int:
        """The first row of a step. A key of another type would make a copy of the whole column."""
        key = np.int32(number)
        return sum(int(np.searchsorted(steps, key)) for steps in self._steps)

    def _share(self, slots: int) -> list[tuple[range, bool]]:
        """This rank's passes of a step of so many slots: their numbers, whether they count."""
        passes = [
            range(first, min(first + self.slots_per_pass, slots))
            for first in range(0, slots, self.slots_per_pass)
        ]
        mine = [(each, True) for each in passes[self.rank :: self.world]]
        most = -(-len(passes) // self.world)
        return mine + [(passes[0], False)] * (most - len(mine)) if self.even else mine

    def _batches(
        self, number: int, slots: Mapping[int, tuple[str, np.ndarray]]
    ) -> dict[int, Batch]:
        """Slots of a step by number. All rows of a task are read at once, which is faster."""
        out: dict[int, Batch] = {}
        for task in dict.fromkeys(task for task, _ in slots.values()):
            rows = {slot: rows for slot, (name, rows) in slots.items() if name == task}
            try:
                whole = self._collate(task, np.concatenate(list(rows.values())))
            except (MuppetError, OSError, pa.ArrowException) as error:
                raise MuppetError(f"step {number}, task {task!r}: {error}") from error
            out |= zip(rows, whole.split([len(each) for each in rows.values()]), strict=True)
        if self.pin:
            out = {slot: replace(b, pinned=b.tensors(pin=True)) for slot, b in out.items()}
        return out

    def _collate(self, task: str, rows: np.ndarray) -> Batch:
        if task not in self._tokens:  # opened when it is first needed
            self._tokens[task] = Tokens(self._paths[task], "train")
        return collate(task, self._tokens[task], rows)


def _parts(column: pa.ChunkedArray) -> list[np.ndarray]:
    """A column where it lies, by record batch; of a dictionary the indices.

    Not by ``to_numpy``, which imports pandas if there is one and takes half a second for it.
    """
    arrays = column.chunks
    if pa.types.is_dictionary(column.type):
        arrays = [array.indices for array in arrays]
    return [np.from_dlpack(array) for array in arrays]
