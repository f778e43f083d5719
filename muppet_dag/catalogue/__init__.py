"""The catalogue: every task, declared."""

from __future__ import annotations

import difflib

from muppet_dag.catalogue import classification, commonsense, held_out, mrc, summarization
from muppet_dag.catalogue.task import FAMILIES, Family, Slice, Task, named
from muppet_dag.errors import BadConfig

TASKS: dict[str, Task] = {
    name: task
    for module in (classification, commonsense, mrc, summarization, held_out)
    for name, task in named(vars(module)).items()
}


def get(name: str) -> Task:
    """The task of that name; an unknown name is refused with the nearest ones."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3) or sorted(TASKS)
        raise BadConfig(f"unknown task {name!r}; did you mean {', '.join(near)}?")
    return TASKS[name]


__all__ = ["FAMILIES", "TASKS", "Family", "Slice", "Task", "get"]
