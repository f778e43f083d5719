"""The loop: one update from many tasks at once (Muppet 3.2).

A step is some slots of the mixture, each a micro-batch of one task. A worker goes over its slots
in passes; a pass is one forward and one backward over neighbouring slots:

    for each pass:      L_i = (loss of row i, plus lambda KL_i with R3F) / log n(i)
                        L   = sum over slots of (mean over rows of L_i) / all slots of the step
                        gradients += dL
    then, all workers:  sum the gradients, clip them, take one step of the optimizer

All of a run's state besides weights and optimizer is a function of the step, so a run that is
killed anywhere goes on from its last checkpoint as if nothing had been.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from muppet_dag.errors import Interrupted
from muppet_dag.mixture.loader import Loader, Step
from muppet_dag.training import guards, optim
from muppet_dag.training.checkpoint import Checkpoints
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.progress import Progress
from muppet_dag.training.report import Report
from muppet_dag.training.result import Result
from muppet_dag.training.validation import Selection, Validation


class Trainer:
    """One job on one worker.

    ``stop`` may be set at any time: the run ends with a checkpoint of its last whole step, without
    waiting for the end of a long step or of a validation.
    """

    def __init__(self, job: Job, group: Group, pipes: object = None) -> None:
        self.job, self.group, self.settings = job, group, job.training
        self.stop = self.stopping = False
        output, settings = Path(job.output), self.settings
        self.engine = Engine(job, group)
        self.model = self.engine.model
        self.optimizer = optim.make_optimizer(self.model, settings)
        self.ema = optim.Ema(self.model, settings.ema) if settings.ema else None
        self.averaged = self.ema.applied if self.ema else nullcontext
        self.checkpoints = Checkpoints(output / "checkpoints", job.fingerprint, settings, group)
        self.done, progress = self.checkpoints.restore(self.model, self.optimizer, self.ema)
        self.loader = Loader(
            Path(job.mixture), {task.name: Path(task.tokens) for task in job.tasks},
            start=self.done, rank=group.rank, world=group.world, even=self.engine.sharded,
            slots_per_pass=settings.slots_per_pass, pin=group.device.type == "cuda",
        )  # fmt: skip
        self.steps = len(self.loader)
        self.schedule = optim.make_schedule(self.optimizer, settings, self.steps, self.done)
        self.validation = Validation(job, self.engine, group, stop=lambda: self.stop)
        self.selection = Selection(self.validation.tasks, settings)
        self.guard, self.warned = guards.Guard(output, self.engine, group), set[str]()
        self.progress = Progress(self.engine, group)
        self.clock = self.progress.clock
        self.report = Report(output, job.name, self.steps, pipes) if group.rank == 0 else None
        self._resume(progress)

    def run(self) -> Path:
        """Train to the end of the mixture and save the model; returns its folder."""
        self._before()
        for step in self.clock.waiting(self.loader):
            if self.stopping or self.selection.ends:
                break
            if self.update(step):
                self._after()
        if self.stopping and (self.done < self.steps or self.validated < self.done):
            if self.done > self.saved:
                self._checkpoint()
            self.checkpoints.wait()
            message = f"{self.job.name}: stopped after step {self.done}"
            raise Interrupted(f"{message}; run again to resume")
        return self._save()

    # --- One step ---------------------------------------------------------------------------------

    def update(self, step: Step) -> bool:
        """One optimizer update over all slots of the step, of all workers.

        Returns False if a worker was asked to stop in the middle; then nothing has changed.
        """
        before = [buffer.clone() for buffer in self.model.heads.buffers()]
        self.model.begin_step()
        losses, whole = self._passes(step)
        with self.clock.phase("communication"):
            self.group.sum_gradients(self.model.parameters())
        with self.clock.phase("optimizer"):
            norm = torch.as_tensor(optim.clip(self.model.parameters(), self.settings.clip_norm))
        with self.clock.phase("communication"):
            finite, whole = self._agree(losses, norm, whole)
        if whole and finite:
            self._step()
            self.progress.step(step, losses, norm)
        elif whole:
            self._warn(self.guard.failed(step, losses))
        self.optimizer.zero_grad(set_to_none=True)
        if whole:
            self.schedule.step()
            self.done = step.number + 1
        else:
            for buffer, old in zip(self.model.heads.buffers(), before, strict=True):
                buffer.copy_(old)
        return whole

    def _step(self) -> None:
        with self.clock.phase("optimizer"), guards.memory(self.done, ()):
            self.optimizer.step()
            if self.ema:
                self.ema.update()
        self.guard.taken()

    def _passes(self, step: Step) -> tuple[list[Tensor], bool]:
        """Forward and backward: the loss of each of this worker's slots, and whether all were run.

        Sharded, workers meet inside every pass: there they leave together, and they run equally
        many passes; a surplus one adds nothing.
        """
        losses: list[Tensor] = []
        for each in step.passes:
            if self.group.any(self.stop) if self.engine.sharded else self.stop:
                return losses, False
            with guards.memory(step.number, each.slots):
                with self.clock.phase("forward"):
                    by_slot = self.engine.losses(step.number, each.slots)
                    loss = torch.stack(by_slot).sum() * (each.counts / step.total_slots)
                with self.clock.phase("backward"):
                    loss.backward()
            losses += [loss.detach() for loss in by_slot if each.counts]
        return losses, True

    def _agree(self, losses: list[Tensor], norm: Tensor, whole: bool) -> tuple[bool, bool]:
        """Whether the step's numbers are finite, and whether all of it was run, on all workers.

        This is the one moment of a step that waits for the device.
        """
        numbers = torch.stack([*(each.float() for each in losses), norm.float()])
        flags = torch.tensor([0.0, not whole, self.stop], device=self.group.device)
        flags[0] = (~torch.isfinite(numbers)).sum()
        bad, cut, stops = self.group.sum(flags).tolist()
        self.stopping = bool(cut or stops)
        return not bad, not cut

    # --- Between steps ----------------------------------------------------------------------------

    def _due(self, every: int) -> bool:
        return self.done == self.steps or (self.done > 0 and self.done % every == 0)

    def _before(self) -> None:
        """The scores before the first step, and a validation that a stop had cut short."""
        if self.selection.enabled and not self.selection.base:
            self.selection.begin(self._scores())
        elif self._due(self.settings.validate_every) and self.validated < self.done:
            self._validate()

    def _after(self) -> None:
        if self._due(self.settings.log_every):
            self._log()
        if self._due(self.settings.validate_every):
            self._validate()
        due = self.done % self.settings.checkpoint_every == 0
        if due and self.saved < self.done < self.steps and not self.stopping:
            self._checkpoint()

    def _log(self) -> None:
        values = self.progress.take()
        values["train/learning_rate"] = self.optimizer.param_groups[0]["lr"]
        if self.settings.on_nonfinite == "skip":
            values["train/skipped"] = self.guard.skipped
        if self.report:
            self.report.metrics(self.done - 1, values)
        if self.settings.loss_scaling:
            self._warn(*guards.runaways(values, self.warned))

    def _warn(self, *texts: str) -> None:
        for text in texts if self.report else ():
            self.report.warn(text)

    def _validate(self) -> None:
        """Score all tasks; the best state so far gets a checkpoint that stays."""
        if (metrics := self._scores()) is None:
            return
        self.validated = self.done
        values, best = self.selection.judge(self.done, metrics)
        if self.report and metrics:
            self.report.metrics(self.done - 1, values)
        if best:
            self.checkpoints.mark_best(self.done)
            self._checkpoint()

    def _scores(self) -> dict[str, float] | None:
        """Each task's metrics, of the averaged weights if there are any. None, and ``stopping``,
        if the run was asked to stop meanwhile."""
        with self.clock.phase("aside"), self.averaged():
            metrics = self.validation.run()
        self.stopping |= metrics is None
        return metrics

    # --- State ------------------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        parts = {"guard": self.guard, "selection": self.selection, "progress": self.progress}
        progress = {"validated": self.validated, **{name: p.state() for name, p in parts.items()}}
        with self.clock.phase("aside"):
            self.checkpoints.save(self.done, self.model, self.optimizer, progress, self.ema)
        self.saved = self.done

    def _resume(self, progress: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept, or begin."""
        self.saved, self.validated = self.done, progress.get("validated", 0)
        if progress:
            self.guard.restore(progress["guard"])
            self.selection.restore(progress["selection"])
            if self.selection.best is not None:  # the mark may be lost, or of a step never saved
                self.checkpoints.mark_best(self.selection.best_step)
            self.progress.restore(progress["progress"])
        if self.report:
            self.report.resume(self.done)
            world, device = self.group.world, self.group.device
            self.report.info(f"from step {self.done} on {world} worker(s), {device}")

    def _save(self) -> Path:
        """Write the finished model beside and rename it: ``output/model`` is whole or not there.

        Returns its folder.
        """
        self.checkpoints.wait()
        if self.report and self.selection.ends:
            when = f"no better score than after step {self.selection.best_step}"
            self.report.info(f"ends after step {self.done}: {when}")
        if self.selection.chosen and self.selection.best_step != self.done:
            self.checkpoints.restore_best(self.model, self.ema)
        result = Result(Path(self.job.output), self.job.fingerprint)
        scratch = result.model.with_name(".model")
        with self.averaged():
            self.engine.save(scratch)
        if self.report:
            skipped = {"skipped": self.guard.skipped} if self.guard.skipped else {}
            ran = {"device": self.group.device_name, "workers": self.group.world}
            self.report.facts({"steps": self.done, **ran, **skipped, **self.selection.facts()})
            result.keep_model(scratch)
        self.group.barrier()
        return result.model
