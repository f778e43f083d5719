"""The SQL of one split.

The query keeps every raw row in order and only says why a row is to be dropped, so that raw row
numbers in error messages are right and every dropped row is counted under its reason.
"""

from __future__ import annotations

from muppet_dag.catalogue import Slice, Task
from muppet_dag.catalogue.sql import blank
from muppet_dag.catalogue.task import UNIT_RANGE
from muppet_dag.corpus import labels
from muppet_dag.corpus.database import quote
from muppet_dag.corpus.expressions import enclosed, typed
from muppet_dag.corpus.raw.readers import RAW
from muppet_dag.corpus.schema import SQL_TYPES

#: Seed of the hash that carves validation rows out of a training split.
CARVE_SEED = 20210111
#: Reason of rows that belong to another slice of the same raw split; they are not counted.
ELSEWHERE = "in another part of the split"
#: Reason of rows whose label the data does not say.
UNLABELLED = "unlabelled"


#: What the unified columns are made of, where it is more than the raw column.
_UNIFIED = {
    "label": "_label",
    "score": "TRY_CAST(_score AS FLOAT)",
    "answers": f"TRY_CAST(_answers AS {SQL_TYPES['answers']})",
}


def query(task: Task, part: Slice) -> str:
    """The SQL of one split over its raw rows: the unified columns and three more.

    ``dropped`` is the reason why a row is left out, or NULL. ``problem`` says what is wrong with a
    row that stays, as a kind and a value, or NULL (:mod:`muppet_dag.corpus.values` knows the
    kinds). ``counted`` is whether the label was a number, which counts from somewhere.
    """
    unified = ", ".join(f"{_UNIFIED.get(name, f'_raw_{name}')} AS {name}" for name in SQL_TYPES)
    return (
        f"SELECT {unified}, dropped, {_problem(task)} AS problem, {_counted(task)} AS counted "
        f"FROM (SELECT *, {_dropped(task, part)} AS dropped "
        f"FROM (SELECT *, {_read(task)} "
        f"FROM (SELECT {_selected(task)} FROM {RAW})))"
    )


def _selected(task: Task) -> str:
    """The entry's expressions, and its reason to drop a row.

    No expression can mean these names by accident: to DuckDB the name of a column of a select list
    stands for it in the others, where the raw rows have no column of that name.
    """
    columns = [f"{typed(task, name)} AS _raw_{name}" for name in SQL_TYPES]
    drops = " ".join(f"WHEN {enclosed(sql)} THEN {quote(why)}" for why, sql in task.drop.items())
    return f"{', '.join(columns)}, {f'CASE {drops} END' if drops else 'NULL::VARCHAR'} AS _drop"


def _read(task: Task) -> str:
    """Label, score and answers as they count; an answer that is blank is none."""
    answers = f"list_filter(_raw_answers, lambda answer: NOT {blank('answer.text')})"
    return (
        f"{labels.index(task) if 'label' in task.columns else 'NULL::INTEGER'} AS _label, "
        f"TRY_CAST(_raw_score AS DOUBLE) AS _score, "
        f"{answers if task.family == 'mrc' else 'NULL'} AS _answers"
    )


def _dropped(task: Task, part: Slice) -> str:
    """Why a row is left out: not this part of the split, the entry's reasons, no label, no text."""
    cases = []
    if (part.low, part.high) != (0, 100):
        # All that a model reads, so that equal inputs stay on one side.
        read = "_raw_text, '/', _raw_query, '/' || array_to_string(_raw_choices, chr(0))"
        bucket = f"md5_number(concat('{CARVE_SEED}/', {read})) % 100"
        inside = f"{bucket} BETWEEN {part.low} AND {part.high - 1}"
        cases.append((f"NOT ({inside})", quote(ELSEWHERE)))
    cases.append(("_drop IS NOT NULL", "_drop"))
    lacking = _LACKING["regression" if task.regression else task.family]
    cases += [(condition, quote(why)) for why, condition in lacking.items()]
    return f"CASE {' '.join(f'WHEN {condition} THEN {why}' for condition, why in cases)} END"


_NO_TEXT = {"empty text": blank("_raw_text")}
#: What a row may lack, so that it is left out: the reason, and when it holds.
_LACKING = {
    "classification": {UNLABELLED: labels.NO_LABEL, **_NO_TEXT},
    "regression": {UNLABELLED: blank("CAST(_raw_score AS VARCHAR)"), **_NO_TEXT},
    "commonsense": {  # its question needs no context
        UNLABELLED: labels.NO_LABEL,
        "missing candidate": "list_count(_raw_choices) < len(_raw_choices)",
        "empty candidate": f"list_bool_or(list_transform(_raw_choices, lambda c: {blank('c')}))",
    },
    "mrc": {
        UNLABELLED: "_raw_answers IS NULL",
        "empty question": f"_raw_query IS NOT NULL AND {blank('_raw_query')}",
        **_NO_TEXT,
    },
    "summarization": {
        UNLABELLED: "_raw_target IS NULL OR _raw_target = ''",
        "empty target": blank("_raw_target"),
        **_NO_TEXT,
    },
}


def _problem(task: Task) -> str:
    """The first thing that is wrong with a row that stays."""
    cases = [
        f"WHEN {condition} THEN "
        f"{{'kind': {quote(kind)}, 'value': left(CAST({value} AS VARCHAR), 200)}}"
        for kind, (condition, value) in _problems(task).items()
    ]
    nothing = "NULL::STRUCT(kind VARCHAR, value VARCHAR)"
    return f"CASE WHEN dropped IS NOT NULL THEN {nothing} {' '.join(cases)} ELSE {nothing} END"


def _problems(task: Task) -> dict[str, tuple[str, str]]:
    """By kind: when a row has the problem, and the value to show."""
    number = "TRY_CAST(_raw_label AS DOUBLE)"
    fraction = f"coalesce({number} <> floor({number}), false)"
    problems = {}
    if task.grouped:
        problems["id"] = ("NOT coalesce(contains(_raw_id, '-'), false)", "_raw_id")
    if task.family == "commonsense":
        problems["choices"] = ("NOT coalesce(len(_raw_choices) >= 2, false)", "_raw_choices")
    if "label" in task.columns:
        count = str(len(task.classes)) if task.classes else "len(_raw_choices)"
        problems["fraction"] = (f"{fraction} AND _label IS NULL", "_raw_label")
        problems["label"] = (f"NOT coalesce(_label >= 0 AND _label < {count}, false)", "_raw_label")
    if task.regression:
        low, high = task.score_range or UNIT_RANGE
        # DuckDB takes NaN to lie between the least and the largest number of a parquet file.
        inside = f"isfinite(_score) AND _score BETWEEN {low} AND {high}"
        problems["score"] = (f"NOT coalesce({inside}, false)", "_raw_score")
    if task.family == "mrc":
        wrong = f"list_filter(_answers, lambda answer: NOT {_stands('answer')})[1]"
        problems["query"] = ("_raw_query IS NULL", "_raw_query")
        problems["answers"] = (f"{wrong} IS NOT NULL", wrong)
    return problems


def _stands(answer: str) -> str:
    """Whether an answer stands in the text where it says, counted in characters from 0."""
    start = f"{answer}.start"
    whole = f"{start} >= 0 AND {start} = floor({start})"
    # Both sides of an AND may be computed, and substr fails beyond its range.
    there = f"substr(_raw_text, TRY_CAST({start} AS INTEGER)::BIGINT + 1, length({answer}.text))"
    return f"coalesce({whole} AND {there} = {answer}.text, false)"


def _counted(task: Task) -> str:
    return labels.by_number(task) if "label" in task.columns else "NULL::BOOLEAN"
