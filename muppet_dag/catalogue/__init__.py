"""The catalogue: every task, declared."""

from __future__ import annotations

import difflib
from pathlib import Path

from muppet_dag.catalogue import classification, commonsense, held_out, mrc, summarization
from muppet_dag.catalogue.task import FAMILIES, Family, Slice, Task, named
from muppet_dag.errors import BadConfig

TASKS: dict[str, Task] = {
    name: task
    for module in (classification, commonsense, mrc, summarization, held_out)
    for name, task in named(vars(module)).items()
}
_SHIPPED = frozenset(TASKS)


def get(name: str) -> Task:
    """The task of that name; an unknown name is refused with the nearest ones."""
    if name not in TASKS:
        near = difflib.get_close_matches(name, TASKS, n=3)
        fix = f"did you mean {', '.join(near)}?" if near else "muppet-dag tasks lists them"
        raise BadConfig(f"unknown task {name!r}; {fix}")
    return TASKS[name]


def extend(folder: Path) -> dict[str, Task]:
    """Add the tasks that a user declares in a folder, and return them. Once more changes nothing.

    Raises BadConfig: for a bad entry, and for a name that the catalogue has already.
    """
    from muppet_dag.catalogue import own

    declared = own.load(Path(folder))
    for name, (path, _) in declared.items():
        if name in _SHIPPED:
            raise BadConfig(f"{path}: {name}: the catalogue has a task of that name already")
    tasks = {name: task for name, (_, task) in declared.items()}
    TASKS.update(tasks)
    return tasks


__all__ = ["FAMILIES", "TASKS", "Family", "Slice", "Task", "extend", "get"]
