"""Task: what a dataset is and how its raw columns become the unified schema.

An entry is one short declaration. Its column mappings are DuckDB SQL expressions over the raw
columns, so a whole task is data, runs vectorised, and streams larger than memory. What SQL cannot
say clearly is a named macro in ``sql.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from muppet_dag.errors import BadConfig

Family = Literal["classification", "commonsense", "mrc", "summarization"]
FAMILIES: tuple[Family, ...] = ("classification", "commonsense", "mrc", "summarization")

#: Script-based Hub repositories are read from the conversion that the Hub itself keeps.
CONVERTED = "refs/convert/parquet"

_NAME = re.compile(r"[a-z0-9_]+")
_SLICE = re.compile(r"(?P<split>[\w.\-]+)(\[(?P<low>\d{1,2})?%?:(?P<high>\d{1,2})?%?\])?")


@dataclass(frozen=True)
class Slice:
    """A part of a raw split: rows whose seeded hash falls into ``[low, high)`` of 100 buckets."""

    split: str
    low: int = 0
    high: int = 100

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Read ``"train"``, ``"train[:5%]"`` or ``"train[5%:]"`` (as ``datasets`` writes them).

        Unlike ``datasets`` the percent count rows in the order of a seeded hash of their text,
        not in file order: many files are sorted by label, and equal texts stay on one side.
        """
        match = _SLICE.fullmatch(text)
        if not match:
            raise BadConfig(f"split {text!r}: expected a name such as train or train[:5%]")
        return cls(match["split"], int(match["low"] or 0), int(match["high"] or 100))


@dataclass(frozen=True)
class HubDataset:
    """Where raw rows live: a dataset repository, one config, and the raw split of each role."""

    repository: str
    config: str
    revision: str
    splits: Mapping[str, str]

    @property
    def slices(self) -> dict[str, Slice]:
        """The raw split (or a part of it) that serves as each role, train first."""
        return {role: Slice.parse(text) for role, text in self.splits.items()}


def hub(
    repository: str,
    config: str = "default",
    *,
    revision: str = "main",
    train: str | None = "train",
    validation: str | None = "validation",
    test: str | None = None,
    **more: str,
) -> HubDataset:
    """Name a dataset on the Hugging Face Hub.

    ``test`` is off unless named, since most benchmarks hide their test labels. Further
    evaluation splits are named by keyword (``validation_mismatched="validation_mismatched"``).
    """
    roles = {"train": train, "validation": validation, "test": test, **more}
    return HubDataset(repository, config, revision, {r: s for r, s in roles.items() if s})


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of the catalogue.

    ``columns`` maps unified columns to SQL expressions over raw columns; ``drop`` maps a reason to
    an SQL condition under which a raw row is left out (and counted under that reason).
    ``rows`` holds the official row count of each raw split, for the row-count check. A ``held_out``
    task is for evaluation only: it is fine-tuned and scored, but no mixture may hold it.
    """

    family: Family
    dataset: HubDataset
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

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the rows: editing a description re-makes nothing."""
        said = asdict(self)
        for words in ("licence", "citation", "about", "rows", "metrics", "held_out"):
            said.pop(words)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def regression(self) -> bool:
        """Whether the target is a number (STS-B) rather than a class."""
        return "score" in self.columns

    @property
    def head(self) -> str:
        """The head that serves this task: its own for classification, else its family's."""
        return self.name if self.family == "classification" else self.family


def classification(
    dataset: HubDataset,
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
    columns = _given(id=id, text=text, query=query, label=label, score=score)
    return _task("classification", dataset, columns, metrics, classes=classes, **rest)


def commonsense(
    dataset: HubDataset,
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
    columns = _given(id=id, text=text, query=query, choices=choices, label=label)
    return _task("commonsense", dataset, columns, metrics, **rest)


def mrc(
    dataset: HubDataset,
    *,
    text: str,
    query: str,
    answers: str,
    metrics: tuple[str, ...] = ("exact_match", "f1"),
    id: str | None = None,
    **rest: object,
) -> Task:
    """Reading comprehension: a passage, a question, gold spans (an empty list: unanswerable)."""
    columns = _given(id=id, text=text, query=query, answers=answers)
    return _task("mrc", dataset, columns, metrics, **rest)


def summarization(
    dataset: HubDataset,
    *,
    text: str,
    target: str,
    metrics: tuple[str, ...] = ("rouge1", "rouge2", "rougeL"),
    id: str | None = None,
    **rest: object,
) -> Task:
    """A document and the summary to write."""
    columns = _given(id=id, text=text, target=target)
    return _task("summarization", dataset, columns, metrics, **rest)


def named(module: Mapping[str, object]) -> dict[str, Task]:
    """Collect a module's entries; the variable that holds an entry is the task's name."""
    tasks = {k: replace(v, name=k) for k, v in module.items() if isinstance(v, Task)}
    for name in tasks:
        if not _NAME.fullmatch(name):
            raise BadConfig(f"task name {name!r}: only a-z, 0-9 and _ are allowed")
    return tasks


def _given(**columns: str | None) -> dict[str, str]:
    return {name: sql for name, sql in columns.items() if sql is not None}


def _task(family: Family, dataset: HubDataset, columns: Mapping[str, str], metrics, **rest) -> Task:
    return Task(family=family, dataset=dataset, columns=columns, metrics=metrics, **rest)
