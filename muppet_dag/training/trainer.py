"""The loop: each step, the slots of this rank, one scaled loss each, one update for all.

Muppet 3.2: the loss of every row is divided by log n, the gradients of the slots of a step are
averaged, and each step holds several tasks.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import nn

from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predict import predict, to_tensors
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.mixture.batch import Batch
from muppet_dag.mixture.loader import Loader, Step
from muppet_dag.model import losses
from muppet_dag.model.multitask import MultiTaskModel, copy_tokenizer, load, saved_heads
from muppet_dag.recipes import TrainingSection
from muppet_dag.training.checkpoint import Checkpoints
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.report import Report


class Interrupted(MuppetError):
    """The run was asked to stop; it has written a checkpoint and can be resumed."""


class Trainer:
    """One job on one worker. ``stop`` may be set at any time, the run then ends after its step."""

    def __init__(self, job: Job, group: Group, pipes: object = None) -> None:
        self.job, self.group, self.stop = job, group, False
        self.settings = job.training
        self.tasks = {task.name: task for task in job.tasks}
        heads = {task.head.name: task.head for task in job.tasks}
        heads |= {h.name: h for h in saved_heads(Path(job.init)) if h.name not in heads}
        model = load(Path(job.init), heads.values(), dropout=self.settings.dropout, seed=job.seed)
        self.model: MultiTaskModel = model.to(group.device)
        self.optimizer = make_optimizer(self.model, self.settings)
        output = Path(job.output)
        self.checkpoints = Checkpoints(output / "checkpoints", job.fingerprint, self.settings.keep)
        start = self.checkpoints.restore(self.model, self.optimizer)
        tokens = {task.name: Path(task.tokens) for task in job.tasks}
        self.loader = Loader(
            Path(job.mixture), tokens, pad_id=self.model.pad_id,
            start=start, rank=group.rank, world=group.world,
        )  # fmt: skip
        self.schedule = make_schedule(self.optimizer, self.settings, len(self.loader), start)
        self.report = Report(output, job.name, len(self.loader), pipes) if group.rank == 0 else None
        if self.report:
            self.report.resume(start)
            self.report.say(f"from step {start} on {group.world} worker(s), {group.device}")
        self.seen = _Seen(list(self.tasks))

    def run(self) -> Path:
        """Train to the end of the mixture and save the model; returns its folder."""
        self.model.train()
        for step in self.loader:
            self.update(step)
            done, last = step.number + 1, step.number + 1 == len(self.loader)
            stopping = self.group.any(self.stop) and not last
            if last or done % self.settings.log_every == 0:
                self._log(step.number)
            if last or done % self.settings.validate_every == 0:
                self._validate(step.number)
            if stopping or (done % self.settings.checkpoint_every == 0 and not last):
                self._checkpoint(done)
            if stopping:
                raise Interrupted(
                    f"{self.job.name}: stopped after step {done}; run again to resume"
                )
        return self._save()

    def update(self, step: Step) -> None:
        """One optimizer update over all slots of the step, of all workers."""
        for slot, batch in step.slots:
            # Dropout depends on (seed, step, slot) alone: not on the worker, nor on a resume.
            torch.manual_seed(_seed(self.job.seed, step.number, slot))
            loss = self.slot_loss(batch)
            (loss / step.total_slots).backward()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise MuppetError(
                    f"step {step.number}, slot {slot}: the loss of task {batch.task!r} is {value} "
                    f"(token rows {batch.rows[:8].tolist()}…). Lower training.learning_rate, or "
                    "look at these rows."
                )
            self.seen.add(batch, value)
        self.group.sum_gradients(self.model.parameters())
        limit = self.settings.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if not torch.isfinite(norm):
            tasks = sorted({batch.task for _, batch in step.slots})
            raise MuppetError(f"step {step.number}: the gradient is {norm}; tasks here: {tasks}")
        self.seen.norm = float(norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()

    def slot_loss(self, batch: Batch) -> torch.Tensor:
        """The mean of the rows' scaled losses (Muppet 3.2, eq. 1)."""
        inputs = to_tensors(batch, self.group.device)
        head = self.tasks[batch.task].head.name
        with torch.autocast(self.group.device.type, torch.bfloat16, enabled=self._half()):
            loss, n = self.model.loss(head, inputs, self.settings.label_smoothing)
        return (losses.scale(loss, n) if self.settings.loss_scaling else loss).mean()

    def _half(self) -> bool:
        if self.settings.precision == "auto":
            return self.group.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.settings.precision == "bfloat16"

    def _log(self, step: int) -> None:
        values = self.seen.take(self.group)
        values["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if self.report:
            self.report.metrics(step, values)

    def _validate(self, step: int) -> None:
        """Each task's metrics on a fixed part of its validation split; ranks share the tasks."""
        names = [name for name, task in self.tasks.items() if task.has("validation")]
        values: dict[str, float] = {}
        for index, name in enumerate(names):
            if index % self.group.world == self.group.rank:
                values |= self._validate_task(self.tasks[name])
        keys = [f"validation/{n}/{m}" for n in names for m in self.tasks[n].metrics]
        sums = torch.tensor([values.get(key, 0.0) for key in keys], device=self.group.device)
        said = dict(zip(keys, self.group.sum(sums).tolist(), strict=True))
        if self.report and said:
            firsts = [said[f"validation/{n}/{self.tasks[n].metrics[0]}"] for n in names]
            self.report.metrics(step, {"validation/mean": sum(firsts) / len(firsts), **said})

    def _validate_task(self, task: TaskFiles) -> dict[str, float]:
        from muppet_dag.evaluation.metrics import score

        made = predict(
            self.model, task, "validation", rows=self.settings.validation_rows,
            device=self.group.device, tokenizer=Path(self.job.init),
        )  # fmt: skip
        found = score(task.family, task.metrics, made.predicted, made.gold, made.groups)
        return {f"validation/{task.name}/{metric}": value for metric, value in found.items()}

    def _checkpoint(self, step: int) -> None:
        if self.group.rank == 0:
            self.checkpoints.save(step, self.model, self.optimizer)
        self.group.barrier()

    def _save(self) -> Path:
        """Write the finished model beside and rename it: ``output/model`` is whole or not there."""
        path = Path(self.job.output) / "model"
        if self.group.rank == 0:
            scratch = path.with_name(".model")
            scratch.mkdir(exist_ok=True)
            self.model.save(scratch)
            copy_tokenizer(Path(self.job.init), scratch)
            os.rename(scratch, path)
        self.group.barrier()
        return path


class _Seen:
    """What happened since the last log line; added up over workers when it is taken."""

    def __init__(self, tasks: list[str]) -> None:
        self.tasks, self.norm = tasks, 0.0
        self._clear()

    def add(self, batch: Batch, loss: float) -> None:
        self.loss[batch.task] += loss
        self.slots[batch.task] += 1
        self.tokens += batch.tokens
        self.padded += batch.padded_tokens

    def take(self, group: Group) -> dict[str, float]:
        """Means since the last call: loss (in all, by task), tokens/s, share of useful tokens."""
        rows = [[self.loss[t], self.slots[t]] for t in self.tasks] + [[self.tokens, self.padded]]
        sums = group.sum(torch.tensor(rows, dtype=torch.float64, device=group.device)).tolist()
        (tokens, padded), by_task = sums.pop(), dict(zip(self.tasks, sums, strict=True))
        seconds = time.perf_counter() - self.started
        loss, slots = (sum(column) for column in zip(*by_task.values(), strict=True))
        self._clear()
        return {
            "train/loss": loss / max(slots, 1),
            "train/gradient_norm": self.norm,
            "train/tokens_per_second": tokens / seconds,
            "train/useful_share": tokens / max(padded, 1),
            **{f"train/loss/{t}": total / n for t, (total, n) in by_task.items() if n},
        }

    def _clear(self) -> None:
        self.loss: dict[str, float] = defaultdict(float)
        self.slots: dict[str, int] = defaultdict(int)
        self.tokens = self.padded = 0
        self.started = time.perf_counter()


def make_optimizer(model: nn.Module, settings: TrainingSection) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation weights do not decay."""
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decay, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=settings.learning_rate, betas=tuple(settings.betas), eps=settings.eps
    )


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSection, steps: int, start: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Warm-up, then decay to zero; a pure function of the step, so resuming needs no state."""
    import transformers

    for group in optimizer.param_groups:
        group["initial_lr"] = settings.learning_rate
    warmup = math.ceil(settings.warmup * steps)
    last = start - 1
    if settings.schedule == "polynomial":
        return transformers.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, steps, lr_end=0.0, power=1.0, last_epoch=last
        )
    if settings.schedule == "linear":
        return transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps, last)
    return transformers.get_constant_schedule_with_warmup(optimizer, warmup, last)


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
