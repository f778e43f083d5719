"""A user's own tasks: every ``*.toml`` and ``*.py`` file of one folder.

A TOML file holds one table per task, named by the task. A Python file holds the declarations that
the catalogue's modules hold; it is run as the user's own code, with all that the user may do.
"""

from __future__ import annotations

import inspect
import json
import runpy
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from muppet_dag.catalogue import task as entries
from muppet_dag.catalogue.task import FAMILIES, METRICS, Family, Files, Task, named
from muppet_dag.errors import BadConfig
from muppet_dag.hub import is_repository

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


def load(folder: Path) -> dict[str, tuple[Path, Task]]:
    """Every task of a folder with the file that declares it. Raises BadConfig."""
    if not folder.is_dir():
        raise BadConfig(f"tasks folder {str(folder)!r}: no such folder")
    tasks: dict[str, tuple[Path, Task]] = {}
    for path in sorted([*folder.glob("*.toml"), *folder.glob("*.py")]):
        for name, task in _read(path):
            if name in tasks:
                raise BadConfig(f"{path}: {name}: {tasks[name][0]} has a task of that name already")
            tasks[name] = path, task
    return tasks


def _read(path: Path) -> Iterator[tuple[str, Task]]:
    """The checked tasks of one file; whatever is wrong with them names file and task."""
    declared = _toml(path) if path.suffix == ".toml" else _python(path)
    for name, make in declared:
        try:
            task = named({name: make()})[name]
            if isinstance(task.dataset, Files):
                task = replace(task, dataset=task.dataset.within(path.parent.resolve()))
            _check(task)
        except BadConfig as error:
            raise BadConfig(f"{path}: {name}: {error}") from error
        yield name, task


def _toml(path: Path) -> Iterator[tuple[str, Any]]:
    from pydantic import TypeAdapter, ValidationError

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path}: {error}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BadConfig(f"{path}: {name}: expected a table for each task, as in [my_task]")
        try:
            # As JSON, strictly: "60" is no number, while a list may become a tuple.
            entry = TypeAdapter(Entry).validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            keys = [(".".join(map(str, (name, *e["loc"]))), e["msg"]) for e in error.errors()]
            problems = "; ".join(f"{key}: {problem}" for key, problem in keys)
            raise BadConfig(f"{path}: {problems}") from error
        yield name, entry.task


def _python(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        variables = runpy.run_path(str(path))
    except Exception as error:  # a user's code may raise anything
        kind = "" if isinstance(error, BadConfig) else f"{type(error).__name__}: "
        raise BadConfig(f"{path}: {kind}{error}") from error
    for name, value in variables.items():
        if isinstance(value, Task):
            yield name, lambda value=value: value


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
