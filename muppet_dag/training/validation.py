"""Validation while a run goes on, and the choice of its best state.

Every task is scored on a fixed part of its validation split. Nothing random is drawn and no
training state is touched, so a run that validates often ends with the very same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from muppet_dag.errors import BadConfig
from muppet_dag.evaluation.predict import predict
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.recipes import TrainingSection
from muppet_dag.training import sharding
from muppet_dag.training.engine import Engine
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job

#: Every metric is a fraction or a correlation: 1 is best (evaluation.metrics).
BEST_POSSIBLE = 1.0
#: A task that is nearer to the best than this before training counts as this far away from it.
LEAST_ROOM = 0.01


class _Stopped(Exception):
    """The run was asked to stop in the middle."""


class Validation:
    """Scores the tasks of a job that have a validation split; workers share the tasks.

    ``stop`` is asked before every batch.
    """

    def __init__(self, job: Job, engine: Engine, group: Group, stop: Callable[[], bool]) -> None:
        self.tasks = [task for task in job.tasks if task.has("validation")]
        self.engine, self.group, self.stop = engine, group, stop
        self.rows, self.tokenizer = job.training.validation_rows, Path(job.init)

    def run(self) -> dict[str, float] | None:
        """``<task>/<metric>`` by name, the same on all workers; None if it was cut short."""
        values: dict[str, float] = {}
        stopped = False
        try:
            with sharding.whole(self.engine.model), self.engine.autocast():
                for task in self.tasks[self.group.rank :: self.group.world]:
                    values |= self._score(task)
        except _Stopped:
            stopped = True
        keys = [f"{task.name}/{metric}" for task in self.tasks for metric in task.metrics]
        numbers = [float(stopped), *(values.get(key, 0.0) for key in keys)]
        stops, *metrics = self.group.sum(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return None if stops else dict(zip(keys, metrics, strict=True))

    def _score(self, task: TaskFiles) -> dict[str, float]:
        from muppet_dag.evaluation.metrics import score

        predictions = predict(
            self.engine.model, task, "validation", rows=self.rows, device=self.group.device,
            tokenizer=self.tokenizer, before_batch=self._go_on,
        )  # fmt: skip
        metrics = score(
            task.family, task.metrics, predictions.predicted, predictions.gold, predictions.groups
        )
        return {f"{task.name}/{metric}": value for metric, value in metrics.items()}

    def _go_on(self) -> None:
        if self.stop():
            raise _Stopped


class Selection:
    """What validations say of a run: its best state, and when to end it.

    A validation's score is the mean over tasks of (metric - base) / (best possible - base), where
    base is the task's first metric before the first step: 0 is as good as before training, 1 is
    perfect, and tasks with little room count as much as others.
    """

    def __init__(self, tasks: list[TaskFiles], settings: TrainingSection) -> None:
        self.tasks, self.patience = tasks, settings.patience
        self.always = settings.select == "best"
        self.enabled = self.always or self.patience > 0
        if self.enabled and not tasks:
            raise BadConfig(
                'training.patience and training.select = "best" need a task with a validation split'
            )
        self.base: dict[str, float] = {}
        self.best: float | None = None
        self.best_step, self.waited = 0, 0
        self.best_values: dict[str, float] = {}

    def begin(self, metrics: Mapping[str, float] | None) -> None:
        """Take the scores before the first step, if there was the time for them."""
        self.base = self._firsts(metrics) if metrics else {}

    def judge(self, step: int, metrics: Mapping[str, float]) -> tuple[dict[str, float], bool]:
        """Take the scores after ``step`` steps: what to report, and whether they are the best."""
        values = {f"validation/{name}": value for name, value in metrics.items()}
        if firsts := self._firsts(metrics):
            values = {"validation/mean": fmean(firsts.values()), **values}
        if not self.enabled:
            return values, False
        score = self.score(firsts)
        values = {"validation/score": score, **values}
        better = self.best is None or score > self.best
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best, self.best_step, self.best_values = score, step, values
        return values, better

    def score(self, firsts: Mapping[str, float]) -> float:
        """The score of each task's first metric."""
        return fmean(
            (value - self.base[task]) / max(BEST_POSSIBLE - self.base[task], LEAST_ROOM)
            for task, value in firsts.items()
        )

    def _firsts(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By task the metric it is judged by: the first that its entry lists."""
        return {task.name: metrics[f"{task.name}/{task.metrics[0]}"] for task in self.tasks}

    @property
    def ends(self) -> bool:
        """Whether the run has waited for a better score for as long as the recipe allows."""
        return 0 < self.patience <= self.waited

    @property
    def chosen(self) -> bool:
        """Whether the best state becomes the model, also where the run stops early."""
        return self.always or self.ends

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        names = ("base", "best", "best_step", "best_values", "waited")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        for name, value in state.items():
            setattr(self, name, value)

    def facts(self) -> dict[str, Any]:
        """What the finished run says of it."""
        if not self.enabled:
            return {}
        facts = {"stopped_early": self.ends, "best_step": self.best_step, "best_score": self.best}
        return facts | {"before": self.base} | ({"chosen": self.best_values} if self.chosen else {})
