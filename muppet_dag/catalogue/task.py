"""Task: what a dataset is and how its raw columns become the unified schema.

An entry is one short declaration. Its column mappings are DuckDB SQL expressions over the raw
columns, so a whole task is data, runs vectorised, and streams larger than memory. What SQL cannot
say clearly is a named macro in ``sql.py``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from muppet_dag.catalogue.dataset import CONVERTED, Dataset, Files, HubDataset, Slice, files, hub
from muppet_dag.errors import BadConfig

__all__ = [
    "CONVERTED", "FAMILIES", "METRICS", "Dataset", "Family", "Files", "HubDataset", "Slice", "Task",
    "classification", "commonsense", "files", "hub", "mrc", "named", "summarization",
]  # fmt: skip

Family = Literal["classification", "commonsense", "mrc", "summarization"]
FAMILIES: tuple[Family, ...] = ("classification", "commonsense", "mrc", "summarization")

_GROUPED = "question_exact_match"
#: The metric names that an entry of each family may list.
METRICS: dict[Family, tuple[str, ...]] = {
    "classification": (
        "accuracy",
        "f1",
        "macro_f1",
        "matthews",
        "pearson",
        "spearman",
        _GROUPED,
    ),
    "commonsense": ("accuracy", _GROUPED),
    "mrc": (
        "exact_match", "f1", "drop_exact_match", "drop_f1", "trivia_exact_match", "trivia_f1",
    ),
    "summarization": ("rouge1", "rouge2", "rougeL", "rougeLsum"),
}  # fmt: skip

#: Where the scores of a regression task lie that names no ``score_range``.
UNIT_RANGE = (0.0, 1.0)

_NAME = re.compile(r"[a-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the catalogue.

    ``columns`` maps unified columns to SQL expressions over raw columns; ``drop`` maps a reason to
    an SQL condition under which a raw row is left out (and counted under that reason).
    ``classes`` are the names of the labels 0, 1, …, and text labels may be these names.
    ``score_range`` is the lowest and highest score that there may be, which training brings to 0
    and 1; without it scores lie from 0 to 1 already. A score outside is refused.
    ``rows`` holds the official row count of each raw split, for the row-count check. A ``held_out``
    task is for evaluation only: it is fine-tuned and scored, but no mixture may hold it.
    """

    family: Family
    dataset: Dataset
    columns: Mapping[str, str]
    classes: tuple[str, ...] = ()
    score_range: tuple[float, float] | None = None
    drop: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    licence: str = "unknown"
    citation: str = ""
    about: str = ""
    held_out: bool = False
    version: int = 1
    name: str = ""

    def __post_init__(self) -> None:
        if self.score_range is not None:
            low, high = self.score_range
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise BadConfig(
                    f"score_range = {list(self.score_range)}: expected the lowest score that there "
                    "may be, then the highest"
                )
        if self.grouped and "id" not in self.columns:
            raise BadConfig(
                f"metrics: {_GROUPED} needs id, an expression such as "
                "concat_ws('-', question_id, answer_id): rows belong to one question whose ids "
                "are equal up to the last '-'"
            )

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the rows: editing a description re-makes nothing."""
        entry = asdict(self)
        for key in ("licence", "citation", "about", "rows", "metrics", "held_out"):
            entry.pop(key)
        entry["dataset"].pop("paths", None)  # what files hold decides, not where they lie
        if self.grouped:  # then the ids are looked at
            entry["grouped"] = True
        return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def regression(self) -> bool:
        """Whether the target is a number (STS-B) rather than a class."""
        return "score" in self.columns

    @property
    def grouped(self) -> bool:
        """Whether rows are scored by question: then their ids say which belong together."""
        return _GROUPED in self.metrics

    @property
    def head(self) -> str:
        """The head that serves this task: its own for classification, else its family's.

        A task may have the name of a family: its own head has one that no task can have.
        """
        if self.family != "classification":
            return self.family
        return f"{self.name}-task" if self.name in FAMILIES else self.name


def classification(
    dataset: Dataset,
    *,
    text: str,
    query: str | None = None,
    label: str | None = None,
    score: str | None = None,
    classes: tuple[str, ...] = (),
    metrics: tuple[str, ...] = ("accuracy",),
    id: str | None = None,
    **rest: object,
) -> Task:
    """A text or a pair of texts with a class (``label``, ``classes``) or a number (``score``)."""
    if (label is None) == (score is None) or (label is None) == bool(classes):
        raise BadConfig("a classification task has label= and classes=, or score=")
    columns = _present(id=id, text=text, query=query, label=label, score=score)
    return _task("classification", dataset, columns, metrics, classes=classes, **rest)


def commonsense(
    dataset: Dataset,
    *,
    choices: str,
    label: str,
    text: str = "''",
    query: str | None = None,
    metrics: tuple[str, ...] = ("accuracy",),
    id: str | None = None,
    **rest: object,
) -> Task:
    """Multiple choice: an optional context, an optional question, candidates, the right index."""
    columns = _present(id=id, text=text, query=query, choices=choices, label=label)
    return _task("commonsense", dataset, columns, metrics, **rest)


def mrc(
    dataset: Dataset,
    *,
    text: str,
    query: str,
    answers: str,
    metrics: tuple[str, ...] = ("exact_match", "f1"),
    id: str | None = None,
    **rest: object,
) -> Task:
    """Reading comprehension: a passage, a question, gold spans (an empty list: unanswerable)."""
    columns = _present(id=id, text=text, query=query, answers=answers)
    return _task("mrc", dataset, columns, metrics, **rest)


def summarization(
    dataset: Dataset,
    *,
    text: str,
    target: str,
    metrics: tuple[str, ...] = ("rouge1", "rouge2", "rougeL"),
    id: str | None = None,
    **rest: object,
) -> Task:
    """A document and the summary to write."""
    columns = _present(id=id, text=text, target=target)
    return _task("summarization", dataset, columns, metrics, **rest)


def named(module: Mapping[str, object]) -> dict[str, Task]:
    """Collect a module's entries; the variable that holds an entry is the task's name."""
    tasks = {k: replace(v, name=k) for k, v in module.items() if isinstance(v, Task)}
    for name in tasks:
        if not _NAME.fullmatch(name):
            raise BadConfig(f"task name {name!r}: only a-z, 0-9 and _ are allowed")
    return tasks


def _present(**columns: str | None) -> dict[str, str]:
    return {name: sql for name, sql in columns.items() if sql is not None}


def _task(family: Family, dataset: Dataset, columns: Mapping[str, str], metrics, **rest) -> Task:
    return Task(family=family, dataset=dataset, columns=columns, metrics=metrics, **rest)
