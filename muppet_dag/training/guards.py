"""What goes wrong in a run, told so that one knows which step, task and rows to look at.

A loss or gradient that is not finite, memory that runs out, a task whose loss runs away.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muppet_dag.errors import MuppetError
from muppet_dag.files import write_atomic
from muppet_dag.mixture.batch import Batch
from muppet_dag.mixture.loader import Step
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group

Slots = Sequence[tuple[int, Batch]]
#: A task's scaled loss above this is a warning; 1 is chance (Muppet 3.2).
RUNAWAY = 3.0


@dataclass(frozen=True)
class Culprit:
    """A slot that a step failed on. ``loss`` is text, since JSON has no infinity."""

    slot: int
    task: str
    rows: list[int]
    loss: str


class Guard:
    """Steps whose loss or gradient is not finite: they stop the run, or are skipped.

    ``taken`` and ``failed`` are called on every worker alike, so all of them stop, or skip.
    """

    def __init__(self, output: Path, engine: Engine, group: Group) -> None:
        self.output, self.engine, self.group = Path(output), engine, group
        self.settings = engine.settings
        self.skipped = self.in_a_row = 0

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps of it."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def restore(self, state: dict[str, int]) -> None:
        """Go on from what ``state`` gave."""
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def taken(self) -> None:
        """A step went well."""
        self.in_a_row = 0

    def failed(self, step: Step, losses: Sequence[Tensor]) -> str:
        """Find the slots a step failed on, write them down, and stop or count a skipped step.

        ``losses`` are those of this worker's slots, in order; the gradients are still there. If all
        losses are finite, every slot's gradient is computed once more, alone (not of sharded
        weights, where workers would have to do it together). Returns what happened, in words.
        Raises MuppetError if the run is to stop.
        """
        bad = self.engine.nonfinite_gradients()
        slots = [slot for each in step.passes if each.counts for slot in each.slots]
        computed = [(*slot, float(loss)) for slot, loss in zip(slots, losses, strict=True)]
        failing = [each for each in computed if not math.isfinite(each[2])]
        if not self.group.any(bool(failing)) and not self.engine.sharded:
            alone = {n: self.engine.nonfinite_alone(step.number, n, batch) for n, batch in slots}
            failing = [each for each in computed if alone[each[0]]]
            bad = list(dict.fromkeys(name for names in alone.values() for name in names))
        culprits = [Culprit(n, batch.task, batch.rows.tolist(), str(x)) for n, batch, x in failing]
        path, slots, bad = self._write(step.number, culprits, bad)
        return self._count(f"step {step.number}: {_describe(slots, bad)}; {path.name} has it all")

    def _count(self, message: str) -> str:
        self.skipped, self.in_a_row = self.skipped + 1, self.in_a_row + 1
        if self.settings.on_nonfinite == "stop":
            raise MuppetError(
                f"{message}. Lower training.learning_rate or set training.clip_norm, look at these "
                'rows, or let such steps pass with training.on_nonfinite = "skip".'
            )
        if self.in_a_row > self.settings.max_skipped:
            raise MuppetError(
                f"{message}. These are {self.in_a_row} steps in a row, and training.max_skipped is "
                f"{self.settings.max_skipped}: the weights themselves may be spoilt. Lower "
                "training.learning_rate and start anew."
            )
        return f"{message}; the step is skipped"

    def _write(
        self, step: int, culprits: list[Culprit], bad: list[str]
    ) -> tuple[Path, list[dict[str, Any]], list[str]]:
        """Each worker leaves its part beside; the first makes one file of them. Returns all."""
        path = self.output / f"nonfinite-step-{step}.json"
        parts = [self.output / f".{path.stem}-{rank}.json" for rank in range(self.group.world)]
        mine = {"slots": [asdict(each) for each in culprits], "parameters": bad}
        write_atomic(parts[self.group.rank], json.dumps(mine))
        self.group.barrier()
        written = [json.loads(part.read_text()) for part in parts]
        self.group.barrier()  # all have read
        slots = sorted((s for part in written for s in part["slots"]), key=lambda s: s["slot"])
        bad = list(dict.fromkeys(name for part in written for name in part["parameters"]))
        if self.group.rank == 0:
            whole = {"step": step, "slots": slots, "parameters": bad}
            write_atomic(path, json.dumps(whole, indent=1))
            for part in parts:
                part.unlink()
        return path, slots, bad


def _describe(slots: Sequence[dict[str, Any]], bad: Sequence[str]) -> str:
    """The worst in one clause: the losses, or the tasks that the gradient comes from."""
    shown = [
        f"the loss of task {each['task']!r} is {each['loss']} (slot {each['slot']}, token rows "
        f"{each['rows'][:8]}{'…' if len(each['rows']) > 8 else ''})"
        for each in slots[:3]
    ]
    if slots and not all(math.isfinite(float(each["loss"])) for each in slots):
        return ", ".join(shown)
    tasks = ", ".join(sorted({each["task"] for each in slots})) or "no single slot"
    names = ", ".join(bad[:3]) or "all parameters together"  # finite ones whose norm is not
    return f"the gradient of {names} is not finite; it comes from {tasks}"


@contextmanager
def memory(step: int, slots: Slots) -> Iterator[None]:
    """Running out of memory names the slots that were computed (none: the update itself)."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        ours = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not ours and "DefaultCPUAllocator" not in str(error):
            raise
        if not slots:
            raise MuppetError(
                f"step {step}: out of memory while the weights were updated; the optimizer's state "
                'takes it. Set training.sharding = "fsdp" on more workers, or take a smaller model.'
            ) from error
        each = [f"{b.task} ({len(b.rows)} rows, {b.padded_tokens} padded tokens)" for _, b in slots]
        raise MuppetError(
            f"step {step}: out of memory in slots {slots[0][0]} to {slots[-1][0]}: "
            f"{', '.join(each)}. Lower mixture.slot_tokens or training.slots_per_pass, or set "
            "training.fuse_noised = false where a regularizer is on."
        ) from error


def runaways(values: Mapping[str, float], warned: set[str]) -> list[str]:
    """A warning for each task whose mean scaled loss is far above chance.

    ``values`` as they are reported; a task that is in ``warned`` was warned of before, and is
    forgotten there once it has come back.
    """
    name = "train/loss/"
    losses = {key.removeprefix(name): v for key, v in values.items() if key.startswith(name)}
    fresh = sorted(task for task, loss in losses.items() if loss > RUNAWAY and task not in warned)
    warned -= {task for task, loss in losses.items() if loss <= RUNAWAY}
    warned.update(fresh)
    return [
        f"the loss of task {task!r} is {losses[task]:.3g} times what guessing gives: lower "
        "training.learning_rate, or look at its rows"
        for task in fresh
    ]
