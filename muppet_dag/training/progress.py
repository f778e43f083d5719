"""What a run has done since its last report: losses by task, speed, and where the time went.

Losses stay on the device until they are reported, so that counting waits for nothing.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from muppet_dag.mixture.batch import Batch
from muppet_dag.mixture.loader import Step
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group

#: The phases of a step. "aside" is validation and checkpoints.
PHASES = ("data", "forward", "backward", "communication", "optimizer", "aside")
_ON_HOST = ("data", "aside")
Item = TypeVar("Item")


class Clock:
    """Seconds by phase.

    What runs on a GPU is timed there, by events that are read when asked for: timing never makes
    the host wait. Waiting for data, validation and checkpoints are timed on the host.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.clear()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what happens inside to a phase."""
        if self.on_gpu and name not in _ON_HOST:
            pair = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            pair[0].record()
            yield
            pair[1].record()
            self.events.append((name, *pair))
        else:
            before = time.perf_counter()
            yield
            self.seconds[name] += time.perf_counter() - before

    def waiting(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items; the wait for each counts to "data"."""
        source = iter(items)
        while True:
            with self.phase("data"):
                item = next(source, None)
            if item is None:
                return
            yield item

    def read(self) -> dict[str, float]:
        """Seconds by phase since the last ``clear``, and "all" by the wall."""
        if self.events:
            torch.cuda.synchronize()
        for name, start, end in self.events:
            self.seconds[name] += start.elapsed_time(end) / 1000
        self.events = []
        return {**self.seconds, "all": time.perf_counter() - self.started}

    def clear(self) -> None:
        """Begin anew."""
        self.seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.started = time.perf_counter()


class Progress:
    """Sums since the last report, of this worker; added up over workers when they are taken.

    Sums that do not depend on the machine outlive a kill: ``state`` goes into each checkpoint, so
    a resumed run reports what an undisturbed one does. Timings cover the steps taken since.
    """

    def __init__(self, engine: Engine, group: Group) -> None:
        self.engine, self.group, self.clock = engine, group, Clock(group.device)
        self.tasks = list(engine.heads)
        self._clear()

    def step(self, step: Step, losses: Sequence[Tensor], norm: Tensor) -> None:
        """Count a step: the losses of this worker's slots, in order, and the gradient norm."""
        passes = [[batch for _, batch in each.slots] for each in step.passes if each.counts]
        names = [batch.task for batches in passes for batch in batches]
        self.waiting += zip(names, losses, strict=True)
        self.steps, self.norm = self.steps + 1, norm
        for batches in passes:
            tokens = sum(batch.tokens for batch in batches)
            self.tokens, self.live = self.tokens + tokens, self.live + tokens
            packed = self.engine.model.packed
            self.computed += tokens if packed else computed_tokens(batches, self.engine.generating)
            self.flops += sum(map(self.engine.flops, batches)) if self.engine.peak else 0

    def state(self) -> dict[str, Any]:
        """The sums over all workers so far (a collective call), as JSON."""
        losses, (tokens, computed) = self._summed()
        norm = None if self.norm is None else float(self.norm)
        return {"losses": losses, "tokens": tokens, "computed": computed, "norm": norm}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave: the sums are the first worker's from now on."""
        self.norm = None if state["norm"] is None else torch.tensor(state["norm"])
        if self.group.rank == 0:
            self.loss.update({task: loss for task, (loss, _) in state["losses"].items()})
            self.slots.update({task: int(n) for task, (_, n) in state["losses"].items()})
            self.tokens, self.computed = int(state["tokens"]), int(state["computed"])

    def take(self) -> dict[str, float]:
        """Means since the last call (a collective call); begins anew."""
        losses, (tokens, computed) = self._summed()
        total, slots = (sum(column) for column in zip(*losses.values(), strict=True))
        values = {} if not slots else {
            "train/loss": total / slots,
            "train/gradient_norm": float(self.norm),
            "train/useful_share": tokens / computed,
            **{f"train/loss/{task}": loss / n for task, (loss, n) in losses.items() if n},
        }  # fmt: skip
        values |= self._speed()
        self._clear()
        return values

    def _summed(self) -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
        """By task loss and number of slots; tokens and computed tokens. Of all workers."""
        if self.waiting:
            values = torch.stack([loss for _, loss in self.waiting]).tolist()
            for (task, _), value in zip(self.waiting, values, strict=True):
                self.loss[task] += value
                self.slots[task] += 1
            self.waiting = []
        rows = [[self.loss[t], self.slots[t]] for t in self.tasks] + [[self.tokens, self.computed]]
        *losses, tokens = self._sum(rows)
        by_task = zip(self.tasks, (tuple(each) for each in losses), strict=True)
        return dict(by_task), tuple(tokens)

    def _speed(self) -> dict[str, float]:
        """Useful tokens a second of training (validation and checkpoints apart), the mean over
        workers of where the time went, memory, and on a known GPU the share of its peak."""
        seconds, world = self.clock.read(), self.group.world
        names = [*PHASES, "all"]
        times, (live, flops) = self._sum([[seconds[n] for n in names], [self.live, self.flops]])
        mean = {name: value / world for name, value in zip(names, times, strict=True)}
        training, steps = max(mean["all"] - mean["aside"], 1e-9), max(self.steps, 1)
        values = {"train/tokens_per_second": live / training}
        if self.engine.peak:
            values["train/flops_utilisation"] = flops / training / (self.engine.peak * world)
        values["memory/peak_gb"] = peak_memory(self.group.device) / 2**30
        values["time/step_ms"] = 1000 * mean.pop("all") / steps
        return values | {f"time/{name}_ms": 1000 * value / steps for name, value in mean.items()}

    def _sum(self, rows: list[list[float]]) -> list[list[float]]:
        """Lists of numbers summed over workers; 64 bits hold any count exactly."""
        sizes, flat = [len(row) for row in rows], [value for row in rows for value in row]
        device = self.group.device
        summed = self.group.sum(torch.tensor(flat, dtype=torch.float64, device=device))
        return [part.tolist() for part in summed.split(sizes)]

    def _clear(self) -> None:
        self.waiting: list[tuple[str, Tensor]] = []
        self.loss: dict[str, float] = defaultdict(float)
        self.slots: dict[str, int] = defaultdict(int)
        self.tokens = self.computed = self.live = self.flops = self.steps = 0
        self.norm: Tensor | None = None
        self.clock.clear()


def computed_tokens(batches: Sequence[Batch], generating: set[str]) -> int:
    """Tokens that one pass computes over, padding included: the sequences of all slots of a kind
    are padded to the longest of them, and so are the targets."""
    total = 0
    for kind in (False, True):
        fused = [batch for batch in batches if (batch.task in generating) == kind]
        for lengths in ("lengths", "target_lengths"):
            arrays = [getattr(batch, lengths) for batch in fused]
            longest = max((int(a.max(initial=0)) for a in arrays), default=0)
            total += longest * sum(len(a) for a in arrays)
    return total


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: by tensors on a GPU, else by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
