"""A user's own tasks: every ``*.toml`` and ``*.py`` file of one folder.

A TOML file holds one table per task, named by the task. A Python file holds the declarations that
the catalogue's modules hold; it is run as the user's own code, with all that the user may do.
"""

from __future__ import annotations

import inspect
import json
import re
import runpy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from muppet_dag import settings
from muppet_dag.catalogue import task as entries
from muppet_dag.catalogue.task import FAMILIES, METRICS, Family, Files, Task, named
from muppet_dag.errors import BadConfig
from muppet_dag.files import regular
from muppet_dag.hub import is_repository

#: Names become folders, partition keys and names of runs.
LONGEST_NAME = 64
#: A task's declaration in Python.
_DECLARED = rf"^(\w+)\s*=\s*(?:\w+\.)*(?:{'|'.join(FAMILIES)})\("
#: The metrics of a task whose target is a number.
_CORRELATIONS = ("pearson", "spearman")
#: Keys of an entry that are SQL expressions over the raw columns.
_COLUMNS = ("id", "text", "query", "choices", "label", "score", "answers", "target")
#: Keys that go to the task as they are.
_FACTS = (
    "classes", "score_range", "drop", "metrics", "rows", "licence", "citation", "about",
    "held_out", "version",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HubTable:
    """``hub = { … }``: as :func:`muppet_dag.catalogue.task.hub`; an empty split is none."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid"}

    repository: str
    config: str = "default"
    revision: str = "main"
    train: str = "train"
    validation: str = "validation"
    test: str = ""

    def __post_init__(self) -> None:
        if not is_repository(self.repository):
            raise ValueError(f"repository {self.repository!r}: expected namespace/name")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One table of a TOML file. What is not given takes the family's default."""

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid"}

    hub: HubTable | None = None
    files: dict[str, str] | None = None
    tasksource: str | None = None
    splits: dict[str, str] | None = None
    family: Family | None = None
    id: str | None = None
    text: str | None = None
    query: str | None = None
    choices: str | None = None
    label: str | None = None
    score: str | None = None
    answers: str | None = None
    target: str | None = None
    classes: tuple[str, ...] | None = None
    score_range: tuple[float, float] | None = None
    drop: dict[str, str] | None = None
    metrics: tuple[str, ...] | None = None
    rows: dict[str, int] | None = None
    licence: str | None = None
    citation: str | None = None
    about: str | None = None
    held_out: bool | None = None
    version: int | None = None

    def present(self, names: tuple[str, ...]) -> dict[str, Any]:
        """The keys among ``names`` that the table has."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def task(self) -> Task:
        """The task that the table declares. Raises BadConfig."""
        places = self.present(("hub", "files", "tasksource"))
        if len(places) != 1:
            raise BadConfig(
                "expected one of hub, files and tasksource to say where the rows are, found "
                f"{' and '.join(places) or 'none'}"
            )
        return self._bridged() if self.tasksource else self._declared()

    def _declared(self) -> Task:
        if self.family is None:
            raise BadConfig(f"family: expected one of {', '.join(FAMILIES)}")
        if self.splits is not None:
            raise BadConfig("splits: goes with tasksource only; name splits inside hub or files")
        maker = getattr(entries, self.family)
        columns = self.present(_COLUMNS)
        known = inspect.signature(maker).parameters
        if unknown := [name for name in columns if name not in known]:
            usual = ", ".join(name for name in _COLUMNS if name in known)
            raise BadConfig(f"{', '.join(unknown)}: a {self.family} task has {usual}")
        needed = [n for n in _COLUMNS if n in known and known[n].default is inspect.Parameter.empty]
        if missing := [name for name in needed if name not in columns]:
            raise BadConfig(f"{', '.join(missing)}: a {self.family} task needs it")
        return maker(self._dataset(), **columns, **self._facts())

    def _dataset(self) -> entries.Dataset:
        if self.hub:
            return entries.hub(**{f.name: getattr(self.hub, f.name) for f in fields(self.hub)})
        if "train" not in self.files:
            raise BadConfig("files.train: expected the file of the training rows")
        return entries.files(**self.files)

    def _facts(self) -> dict[str, Any]:
        facts = self.present(_FACTS)
        return facts | ({"metrics": _CORRELATIONS} if self.score and not self.metrics else {})

    def _bridged(self) -> Task:
        from muppet_dag.catalogue import bridge

        if self.family is not None:
            raise BadConfig("family: tasksource says it, remove the key")
        task = bridge.from_tasksource(
            self.tasksource, classes=self.classes, splits=self.splits,
            columns=self.present(_COLUMNS),
        )  # fmt: skip
        return replace(task, **self._facts())


@dataclass(frozen=True)
class Own:
    """The tasks of a folder with the file that declares each, and what is wrong with the others.

    A problem is filed under the task's name, or under its file's where no name can be read.
    """

    tasks: dict[str, tuple[Path, Task]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, path: Path, task: Task | BadConfig) -> None:
        """Take up a task, or its problem; of two of one name neither can be meant."""
        if name in self.tasks:
            first, _ = self.tasks.pop(name)
            task = BadConfig(f"{path}: {name}: {first} has a task of that name already")
        if isinstance(task, BadConfig):
            self.problems.setdefault(name, str(task))
        elif name not in self.problems:
            self.tasks[name] = path, task


def load(folder: Path) -> Own:
    """Every task of a folder; one that is wrong stops no other. BadConfig if there is no folder."""
    folder, own = settings.folder(folder, "MUPPET_TASKS"), Own()
    for path in sorted([*folder.glob("*.toml"), *folder.glob("*.py")]):
        for name, task in _read(path):
            own.add(name, path, task)
    return own


class _BadKeys(BadConfig):
    """Keys of one table, each with what is wrong with it."""


def _read(path: Path) -> Iterator[tuple[str, Task | BadConfig]]:
    """The checked tasks of one file; whatever is wrong with them names file and task."""
    try:
        declared = _toml(path) if path.suffix == ".toml" else _python(path)
    except BadConfig as error:
        yield from ((name, error) for name in _names(path) or [path.name])
        return
    for name, make in declared.items():
        try:
            yield name, _checked(name, make, path)
        except _BadKeys as error:
            yield name, BadConfig(f"{path}: {name}.{error}")
        except BadConfig as error:
            yield name, BadConfig(f"{path}: {name}: {error}")
        except Exception as error:  # what a user's code made may be anything
            yield name, BadConfig(f"{path}: {name}: {type(error).__name__}: {error}")


def _checked(name: str, make: Callable[[], Task], path: Path) -> Task:
    if len(name) > LONGEST_NAME:
        raise BadConfig(f"a name of {len(name)} characters; at most {LONGEST_NAME} are allowed")
    task = named({name: make()})[name]
    if isinstance(task.dataset, Files):
        task = replace(task, dataset=task.dataset.within(path.parent.resolve()))
    _check(task)
    _ = task.fingerprint  # fails where a value is of no kind that an entry may hold
    return task


def _names(path: Path) -> list[str]:
    """Names of the tasks in a file that cannot be read as a whole, as far as they can be told."""
    text = path.read_text(encoding="utf-8-sig", errors="ignore") if path.is_file() else ""
    heading = r"^\s*\[(\w+)\]" if path.suffix == ".toml" else _DECLARED
    return list(dict.fromkeys(re.findall(heading, text, re.MULTILINE)))


def _toml(path: Path) -> dict[str, Callable[[], Task]]:
    return {name: partial(_task, table) for name, table in settings.tables(path).items()}


def _task(table: Any) -> Task:
    """The task of one table. As JSON, strictly: "60" is no number, a list may become a tuple."""
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(table, dict):
        raise BadConfig("expected a table for each task, as in [my_task]")
    try:
        entry = TypeAdapter(Entry).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        keys = [(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        raise _BadKeys("; ".join(f"{key}: {problem}" for key, problem in keys)) from error
    return entry.task()


def _python(path: Path) -> dict[str, Callable[[], Task]]:
    try:
        variables = runpy.run_path(str(regular(path)))
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        kind = "" if isinstance(error, BadConfig) else f"{type(error).__name__}: "
        raise BadConfig(f"{path}: {kind}{error}") from error
    tasks = {name: value for name, value in variables.items() if isinstance(value, Task)}
    return {name: lambda task=task: task for name, task in tasks.items()}


def _check(task: Task) -> None:
    """What would fail only after hours: metrics that do not fit the task."""
    allowed = METRICS[task.family]
    if task.family == "classification":
        numbers = [name for name in allowed if name in _CORRELATIONS]
        allowed = numbers if task.regression else [n for n in allowed if n not in numbers]
        allowed = [n for n in allowed if n != "f1" or len(task.classes) == 2]
    if not task.metrics or (wrong := [name for name in task.metrics if name not in allowed]):
        unfit = ", ".join(wrong) if task.metrics else "none"
        raise BadConfig(
            f"metrics: {unfit}; such a {task.family} task may have {', '.join(allowed)}"
        )
    if len(set(task.classes)) != len(task.classes) or len(task.classes) == 1:
        raise BadConfig("classes: expected two or more different names")
