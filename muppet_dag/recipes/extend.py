"""``extends = "muppet"``: a recipe that says only what differs from another.

What comes out is the recipe as if it had been written in full; ``extends`` leaves no trace in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muppet_dag.recipes.sections import READ_BY

Table = Mapping[str, Any]


def extend(parent: Table, child: Table) -> dict[str, Any]:
    """Parent and child as one recipe.

    Tables are merged key by key, all else (lists too) is replaced. Two kinds of key yield to what
    would contradict them: a child's ``steps`` or ``epochs`` replaces the parent's budget whichever
    it was, and where a child changes ``strategy``, keys that the new one does not read are dropped.
    ``description`` is the child's own.
    """
    return _merge({key: value for key, value in parent.items() if key != "description"}, child)


def _merge(parent: Table, child: Table) -> dict[str, Any]:
    merged = dict(parent)
    for key, value in child.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merge(_yielding(before, value) if key == "mixture" else before, value)
        merged[key] = value
    return merged


def _yielding(mixture: Table, child: Table) -> Table:
    """What of a parent's mixture does not contradict the child's."""
    gone = {"steps", "epochs"} if {"steps", "epochs"} & child.keys() else set()
    if "strategy" in child:
        gone |= {key for key, readers in READ_BY.items() if child["strategy"] not in readers}
    return {key: value for key, value in mixture.items() if key not in gone}
