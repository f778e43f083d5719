"""Values that no row may have, and what is to be done about them."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import UNIT_RANGE
from muppet_dag.corpus import labels
from muppet_dag.errors import BadData


@dataclass(frozen=True)
class Rule:
    """What a column must hold, and what to do where it does not."""

    column: str
    expected: str
    fix: str


def rule(task: Task, kind: str) -> Rule:
    """The rule that a row with this kind of problem breaks (the kinds are those of the query)."""
    column, expected, fix = _RULES[kind]
    low, high = task.score_range or UNIT_RANGE
    facts = {"labels": labels.understood(task), "low": f"{low:g}", "high": f"{high:g}"}
    if kind == "label" and not task.classes:
        fix = _CANDIDATES
    if kind == "score" and not task.score_range:
        fix = 'Say "score_range = [lowest, highest]" of the scores that there may be.'
    return Rule(column, expected.format(**facts), fix)


_RULES = {
    "id": (
        "id", "the question's id, '-' and the answer's, by which question_exact_match groups rows",
        "Change id=, or leave question_exact_match out of metrics=.",
    ),
    "choices": ("choices", "two or more candidates", "Leave such rows out by drop=."),
    "fraction": ("label", "a whole number", "Say in label= how it is rounded, with floor()."),
    "label": (
        "label", "{labels}",
        "Change label= or classes=; rows that no class fits are left out by drop=.",
    ),
    "score": ("score", "a number from {low} to {high}", "Change score_range= or score=."),
    "query": ("query", "a question", "Leave such rows out by drop=."),
    "answers": (
        "answers", "every answer to stand in the text at its start (in characters, from 0)",
        "Change answers=, or leave such rows out by drop=. A question that cannot be answered has "
        "no answers, or a blank one.",
    ),
}  # fmt: skip
_CANDIDATES = (
    'Numbers that count from 1 want label = "… - 1"; the right candidate\'s text wants '
    'label = "list_position(choices, answer) - 1" with the names of your columns.'
)


def check_values(task: Task, role: str, batch: pa.RecordBatch, numbers: pa.Array) -> None:
    """Refuse the first row with a problem. ``numbers`` are the raw row numbers of the batch."""
    problems = batch.column("problem")
    if problems.null_count == len(problems):
        return
    bad = pc.index(problems.is_valid(), True).as_py()
    problem, row_id = problems[bad].as_py(), batch.column("id")[bad].as_py()
    broken = rule(task, problem["kind"])
    place = "" if row_id is None else f" of the row with id {row_id!r}"
    raise BadData(
        f"value {problem['value']!r}{place}",
        task=task.name, split=role, column=broken.column, row=numbers[bad].as_py(),
        expected=broken.expected, fix=broken.fix,
    )  # fmt: skip
