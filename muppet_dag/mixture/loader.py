"""The loader: step by step, the slots of one rank as padded batches.

Rank r of W runs slots r, r + W, … of every step, so any number of workers takes the same updates.
The only state is the step to start from, and finding it is a binary search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.batch import Batch, Tokens, collate
from muppet_dag.mixture.index import FILE


@dataclass(frozen=True)
class Step:
    """One update: this rank's slots (number and batch), and how many slots all ranks have."""

    number: int
    slots: list[tuple[int, Batch]]
    total_slots: int


class Loader:
    """Iterate over the steps of a mixture from ``start``; the next step is read ahead."""

    def __init__(
        self,
        mixture: Path,
        tokens: Mapping[str, Path],
        *,
        pad_id: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        table = pa.ipc.open_file(pa.memory_map(str(Path(mixture) / FILE))).read_all()
        self._step, self._slot, self._row = (
            table.column(name).to_numpy() for name in ("step", "slot", "row")
        )
        task = table.column("task").combine_chunks()
        self._task = task.indices.to_numpy()
        self.tasks: list[str] = task.dictionary.to_pylist()
        missing = sorted(set(self.tasks) - set(tokens))
        if missing:
            raise MuppetError(f"mixture {mixture}: no tokens for {', '.join(missing)}")
        self._tokens = {name: Tokens(tokens[name], "train") for name in self.tasks}
        self.start, self.rank, self.world, self.pad_id = start, rank, world, pad_id

    def __len__(self) -> int:
        return int(self._step[-1]) + 1

    def __iter__(self) -> Iterator[Step]:
        with ThreadPoolExecutor(max_workers=1) as ahead:
            waiting = None
            for number in range(self.start, len(self)):
                following = ahead.submit(self.read, number)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def read(self, number: int) -> Step:
        """The slots of one step that this rank runs."""
        low, high = np.searchsorted(self._step, [number, number + 1])
        slot = self._slot[low:high]
        starts = np.flatnonzero(np.r_[True, np.diff(slot) != 0])
        bounds = low + np.r_[starts, len(slot)]
        mine = range(self.rank, len(starts), self.world)
        slots = [(int(slot[starts[i]]), self._batch(bounds[i], bounds[i + 1])) for i in mine]
        return Step(number, slots, len(starts))

    def _batch(self, low: int, high: int) -> Batch:
        name = self.tasks[self._task[low]]
        return collate(name, self._tokens[name], self._row[low:high], self.pad_id)
