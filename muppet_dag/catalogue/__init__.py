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


#: Tasks of the user's own that cannot be used, and why. Where no task's name could be read, or the
#: catalogue has it already, the file's name stands for it.
PROBLEMS: dict[str, str] = {}
_own: dict[Path, set[str]] = {}  # names that each folder has added


def get(name: str) -> Task:
    """The task of that name; an unknown name is refused with the nearest ones, and a task that
    cannot be used with the reason."""
    if name in TASKS:
        return TASKS[name]
    if name in PROBLEMS:
        raise BadConfig(PROBLEMS[name])
    near = difflib.get_close_matches(name, TASKS, n=3)
    fix = f"did you mean {', '.join(near)}?" if near else "muppet-dag tasks lists them"
    unread = [problem for key, problem in PROBLEMS.items() if "." in key]
    also = f". Not all files could be read: {'; '.join(unread)}" if unread else ""
    raise BadConfig(f"unknown task {name!r}; {fix}{also}")


def extend(folder: Path) -> dict[str, Task]:
    """Add the tasks that a user declares in a folder, and return them; what is wrong with others is
    in ``PROBLEMS``. Once more changes nothing but what changed in the folder.

    Raises BadConfig if there is no such folder.
    """
    from muppet_dag.catalogue import own

    loaded = own.load(Path(folder))
    problems = dict(loaded.problems)
    for name in _SHIPPED & {*loaded.tasks, *problems}:
        path, _ = loaded.tasks.pop(name, (Path(folder), None))
        taken = f"{path}: {name}: the catalogue has a task of that name already"
        problems[f"{path.name}:{name}"] = problems.pop(name, taken)
    tasks = {name: task for name, (_, task) in loaded.tasks.items()}
    key = Path(folder).resolve()
    for name in _own.get(key, ()):
        TASKS.pop(name, None)
        PROBLEMS.pop(name, None)
    _own[key] = {*tasks, *problems}
    TASKS.update(tasks)
    PROBLEMS.update(problems)
    return tasks


__all__ = ["FAMILIES", "PROBLEMS", "TASKS", "Family", "Slice", "Task", "extend", "get"]
