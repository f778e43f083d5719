"""How a raw label is read, as SQL over the column
``_raw_label``: by name, by letter, by number.

Numbers count from 0 and are never rounded. Text is compared with the class names as it stands,
then without regard to case, white space and underscores. Text that is a whole number counts as a
number, unless the class names are whole numbers themselves: then it is the name it spells. The
raw label of a multiple choice is the number of the right candidate or its letter (A, B, …).
Everything else is null here, which the caller refuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from muppet_dag.catalogue import Task
from muppet_dag.catalogue.sql import blank, fold
from muppet_dag.corpus.database import quote

_TRUE, _FALSE = {"true", "yes", "t", "y", "1"}, {"false", "no", "f", "n", "0"}
_TEXT = "CAST(_raw_label AS VARCHAR)"
_NUMBER = "TRY_CAST(_raw_label AS DOUBLE)"
_INDEX = f"(CASE WHEN {_NUMBER} = floor({_NUMBER}) THEN TRY_CAST({_NUMBER} AS INTEGER) END)"
#: Whether the raw column holds numbers (or booleans); of all else the text counts.
_IS_NUMBER = (
    "regexp_matches(typeof(_raw_label), '^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|"
    "DECIMAL.*)$')"
)
_IS_BOOLEAN = "typeof(_raw_label) = 'BOOLEAN'"
#: A number of -1 or nothing at all: the row has no label.
NO_LABEL = f"_raw_label IS NULL OR _label = -1 OR (NOT {_IS_NUMBER} AND {blank(_TEXT)})"


def index(task: Task) -> str:
    """The index of the class or candidate, -1 where the data says none, NULL where it is unclear.

    Of a multiple choice the column ``_raw_choices`` is read too.
    """
    return _class_index(task.classes) if task.classes else _candidate_index()


def by_number(task: Task) -> str:
    """Whether a label was read as a number: only then it may count from another start than 0."""
    if not task.classes:
        return f"NOT ({_IS_BOOLEAN}) AND {_LETTER} IS NULL"
    if _are_numbers(task.classes) and not _is_order(task.classes):
        return _IS_NUMBER
    return f"NOT ({_IS_BOOLEAN}) AND {_named(task.classes)} IS NULL"


def understood(task: Task) -> str:
    """What a label may be, for people."""
    if not task.classes:
        return "the number of the right candidate, counted from 0, or its letter (A, B, …)"
    names = ", ".join(map(repr, task.classes))
    if _are_numbers(task.classes):
        return f"a number from 0 to {len(task.classes) - 1}, or as text one of {names}"
    return f"0 to {len(task.classes) - 1} {task.classes}, or as text one of these names"


def folded(name: str) -> str:
    """A name as it is compared: see :func:`muppet_dag.catalogue.sql.fold`."""
    return re.sub(r"[\s_]+", " ", name).strip().lower()


def _class_index(classes: Sequence[str]) -> str:
    number = _INDEX
    as_text = f"CAST({_INDEX} AS VARCHAR)"
    spelled = f"if({_INDEX} = -1, -1, {_position(classes, as_text)})"
    if _is_order(classes):  # ("1", "0"): a number is the name that it spells
        number = spelled
    text = spelled if _are_numbers(classes) else _INDEX
    return (
        f"CASE WHEN {_IS_BOOLEAN} THEN {_boolean_index(classes)} "
        f"WHEN {_IS_NUMBER} THEN {number} ELSE coalesce({_named(classes)}, {text}) END"
    )


def _named(classes: Sequence[str]) -> str:
    """The class that a text names, NULL for a number or for none."""
    places = [_position(classes, _TEXT)]
    if len({folded(name) for name in classes}) == len(classes):
        names = f"[{', '.join(fold(quote(name)) for name in classes)}]"
        places.append(f"list_position({names}, {fold(_TEXT)}) - 1")
    return f"CASE WHEN NOT {_IS_NUMBER} THEN coalesce({', '.join(places)}) END"


def _position(classes: Sequence[str], text: str) -> str:
    return f"(list_position([{', '.join(map(quote, classes))}], {text}) - 1)"


def _boolean_index(classes: Sequence[str]) -> str:
    """False is the first of two classes, unless their names say the opposite; of more, none is."""
    if len(classes) != 2:
        return "NULL"
    first, second = map(folded, classes)
    turned = first in _TRUE or second in _FALSE
    return f"if(TRY_CAST(_raw_label AS BOOLEAN), {int(not turned)}, {int(turned)})"


#: The place of a single letter in the alphabet.
_LETTER = (
    f"(CASE WHEN NOT {_IS_NUMBER} AND regexp_matches(trim({_TEXT}), '^[A-Za-z]$') "
    f"THEN ascii(upper(trim({_TEXT}))) - 65 END)"
)


def _candidate_index() -> str:
    """Text that is another candidate than the one it would number is unclear."""
    place = f"coalesce({_LETTER}, {_INDEX})"
    other = f"coalesce(list_position(_raw_choices, {_TEXT}) - 1 <> {place}, false)"
    return (
        f"CASE WHEN {_IS_NUMBER} OR {_IS_BOOLEAN} THEN {_INDEX} WHEN NOT {other} THEN {place} END"
    )


def _are_numbers(classes: Sequence[str]) -> bool:
    """Whether a class is named by a whole number."""
    return any(re.fullmatch(r"[+-]?\d+", name.strip()) for name in classes)


def _is_order(classes: Sequence[str]) -> bool:
    """Whether the names are the numbers of the classes, in whatever order."""
    return sorted(classes) == sorted(map(str, range(len(classes))))
