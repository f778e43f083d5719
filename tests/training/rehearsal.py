"""A training loop as small as can be, over made-up slots: what workers do together, without data.

A step is three slots of different tasks, cut into passes as the loader does it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import passes
import torch
from safetensors.torch import save_file
from torch import Tensor

from muppet_dag.model.multitask import MultiTaskModel, load
from muppet_dag.recipes import TrainingSection
from muppet_dag.training import optim, sharding
from muppet_dag.training.group import Group

STEPS = 20
#: By step, in turn. "number" is used on every second step only, the fifth head never.
TURNS = (("three", "commonsense", "mrc"), ("number", "three", "commonsense"))
WRITING_TURNS = (("summarization", "three", "mrc"), ("mrc", "number", "summarization"))
IDLE = passes.HeadSpec("idle", "classification", 4)


@dataclass
class Rehearsal:
    """One run: where its model comes from, how it is trained, and on how many steps."""

    base: str
    training: TrainingSection
    generates: bool = False
    steps: int = STEPS
    seed: int = 1
    losses: list[float] = field(default_factory=list)

    def prepare(self, group: Group) -> MultiTaskModel:
        specs = (*passes.SPECS, IDLE, *((passes.GENERATION,) if self.generates else ()))
        model = load(
            Path(self.base), specs, dropout=self.training.dropout, seed=self.seed,
            r4f=[s.name for s in specs] if self.training.regularizer == "r4f" else (),
        ).train()  # fmt: skip
        if self.training.sharding == "fsdp":
            sharding.shard(model, group)
        self.model, self.group = model, group
        self.optimizer = optim.make_optimizer(model, self.training)
        self.ema = optim.Ema(model, self.training.ema) if self.training.ema else None
        return model

    def run(self, start: int = 0, end: int | None = None) -> None:
        schedule = optim.make_schedule(self.optimizer, self.training, self.steps, start)
        for step in range(start, self.steps if end is None else end):
            self.losses.append(self.step(step))
            schedule.step()

    def step(self, number: int) -> float:
        self.model.begin_step()
        total = torch.zeros(())
        for counts, slots in self.passes(number):
            torch.manual_seed(hash((self.seed, number, slots[0][0])))
            row_losses = self.model.losses([slot for _, slot in slots], self.training)
            loss = torch.stack([loss.mean() for loss, _ in row_losses]).sum() * counts / 3
            loss.backward()
            total += loss.detach()
        self.group.sum_gradients(self.model.parameters())
        optim.clip(self.model.parameters(), self.training.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update()
        return float(self.group.sum(total))

    def passes(self, number: int) -> list[tuple[bool, list[tuple[int, Any]]]]:
        """This worker's passes; under sharding all have equally many, the surplus count nothing."""
        heads = (WRITING_TURNS if self.generates else TURNS)[number % 2]
        slots = [(i, (head, self.inputs(head, 3 * number + i))) for i, head in enumerate(heads)]
        size, world = self.training.slots_per_pass, self.group.world
        each = [slots[i : i + size] for i in range(0, len(slots), size)]
        mine = [(True, one) for one in each[self.group.rank :: world]]
        if self.training.sharding == "fsdp":
            mine += [(False, each[0])] * (-(-len(each) // world) - len(mine))
        return mine

    @staticmethod
    def inputs(head: str, seed: int) -> dict[str, Tensor]:
        return (passes.choices if head == "commonsense" else passes.slot)(3, seed)

    def write(self, output: Path) -> None:
        """Losses and whole weights, by the first worker; all must call it."""
        state = sharding.full_state(self.model)
        with self.ema.applied() if self.ema else torch.no_grad():
            averaged = sharding.full_state(self.model)
        if self.group.rank == 0:
            output.mkdir(parents=True)
            (output / "losses.json").write_text(json.dumps(self.losses))
            for name, tensors in (("model", state), ("average", averaged)):
                clean = {key: value.clone() for key, value in tensors.items()}
                save_file(clean, output / f"{name}.safetensors")


def rehearse(group: Group, plans: dict[str, dict[str, Any]], output: str) -> None:
    """Run each plan: ``{"base": …, "generates": …, "training": {…}}``."""
    for name, plan in plans.items():
        settings = {**plan, "training": TrainingSection(**plan["training"])}
        rehearsal = Rehearsal(**settings)
        rehearsal.prepare(group)
        rehearsal.run()
        rehearsal.write(Path(output) / name)
