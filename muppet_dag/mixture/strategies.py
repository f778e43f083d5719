"""How often each task is drawn, and in which order the slots of a round come.

The mixture is built in rounds. A round is one nominal epoch: as many rows (tokens or slots, as
``weight_unit`` says) as the pool of all tasks holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from muppet_dag.errors import BadConfig
from muppet_dag.mixture.sizes import shuffled
from muppet_dag.recipes import MixtureSection


def check_names(spec: MixtureSection, mixed: Iterable[str]) -> None:
    """BadConfig unless weights name just the tasks that are mixed, and caps none but these."""
    mixed = set(mixed)
    for key in ("weights", "caps"):
        if strange := sorted(set(getattr(spec, key)) - mixed):
            raise BadConfig(
                f"mixture.{key} names {', '.join(strange)}, not among the tasks of this mixture. "
                "Take it out there, or add the task to tasks.include"
            )
    _check_weights(spec, mixed)


def _check_weights(spec: MixtureSection, mixed: Iterable[str]) -> None:
    missing = sorted(set(mixed) - set(spec.weights))
    if spec.strategy == "weights" and missing:
        raise BadConfig(
            f"mixture.weights does not name {', '.join(missing)}; with strategy 'weights' every "
            "task needs one. Give a weight, or take the task out (tasks.exclude)"
        )


def shares(names: Sequence[str], pool: np.ndarray, spec: MixtureSection) -> np.ndarray:
    """Each task's share of the rows, tokens or slots that are drawn, as ``weight_unit`` says, from
    the sizes of the tasks' pools in that unit.

    Raffel et al. 2019, 3.5.2, with size e: ``proportional`` min(e, limit), ``temperature``
    min(e, limit) ^ (1 / temperature), both divided by their sum. An empty pool has no share.
    """
    size = pool.astype(np.float64)
    limited = np.minimum(size, spec.limit or np.inf)
    if spec.strategy == "temperature":
        rate = limited ** (1 / (spec.temperature or 1.0))
    elif spec.strategy == "weights":
        _check_weights(spec, names)
        rate = np.array([spec.weights[name] for name in names])
    else:
        rate = {"natural": size, "equal": np.ones(len(size)), "proportional": limited}[
            spec.strategy
        ]
    rate = np.where(size > 0, rate, 0.0)
    return rate / rate.sum()


def arrange(
    counts: np.ndarray, spec: MixtureSection, before: int, *key: object
) -> tuple[np.ndarray, np.ndarray]:
    """The order of a round: the task of each slot, and whether a step begins with it.

    ``counts`` (tasks,) is how many slots each task gives, ``before`` the slots of all rounds
    before. Heterogeneous steps go on over rounds; others hold one task, and the last of a task in a
    round may be short. ``key`` is the seed and the number of the round.
    """
    seed, full = key[0], spec.slots_per_step
    tasks = np.arange(len(counts))
    if spec.batching == "heterogeneous":
        task = np.repeat(tasks, counts)
        task = task[shuffled(len(task), *key, "order")]
        return task, (before + np.arange(len(task))) % full == 0
    if spec.batching == "sequential":
        tasks = shuffled(len(counts), seed, "tasks")
    steps = -(-counts[tasks] // full)
    task = np.repeat(tasks, steps)
    size = np.full(len(task), full)
    size[np.cumsum(steps)[steps > 0] - 1] -= (-counts[tasks] % full)[steps > 0]
    if spec.batching == "homogeneous":
        order = shuffled(len(task), *key, "order")
        task, size = task[order], size[order]
    begins = np.zeros(int(counts.sum()), bool)
    begins[np.cumsum(size) - size] = True
    return np.repeat(task, size), begins
