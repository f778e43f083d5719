"""A recipe written out in full, as the TOML that would give it again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from muppet_dag.recipes.recipe import Recipe


def toml(recipe: Recipe) -> str:
    """Every key with its value, defaults too; only what is not set at all is left out.

    Saved as ``<name>.toml`` it is read as an equal recipe.
    """
    tables = asdict(recipe)
    return "\n".join([f"# {tables.pop('name')}", *_lines(tables, "")]) + "\n"


def _lines(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """A table's own keys under its heading, then the tables inside it."""
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    plain = {k: v for k, v in table.items() if k not in inner and v is not None}
    if name and plain:
        yield f"\n[{name}]"
    for key, value in plain.items():
        yield f"{key} = {_value(value)}"
    for key, value in inner.items():
        yield from _lines(value, f"{name}.{key}".lstrip("."))


def _value(value: Any) -> str:
    """JSON's numbers, strings and lists are TOML too, but for the one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
