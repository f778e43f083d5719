"""Recipes: where they lie and how they are read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag.errors import BadConfig
from muppet_dag.recipes.extend import extend
from muppet_dag.recipes.finetune import (
    FinetuneMixtureSection,
    FinetuneSection,
    GenerationSection,
)
from muppet_dag.recipes.recipe import NAME, Recipe, slug
from muppet_dag.recipes.sections import (
    MixtureSection,
    ModelSection,
    TasksSection,
    TrainingSection,
)

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SHIPPED = Path(__file__).parent


def load(path: Path) -> Recipe:
    """Read one TOML file; a wrong key or value is refused with its full name.

    ``extends`` names another recipe of the same folder or a shipped one. Raises BadConfig.
    """
    return _load(Path(path), ())[0]


def load_all(*folders: Path) -> dict[str, Recipe]:
    """All recipes by name: the shipped ones and those of the given folders."""
    recipes: dict[str, Recipe] = {}
    for folder in (SHIPPED, *folders):
        for path in sorted(Path(folder).glob("*.toml")):
            if path.stem in recipes:
                raise BadConfig(f"recipe {path}: there is already a recipe {path.stem!r}")
            recipes[path.stem] = load(path)
    return recipes


def get(name: str, *folders: Path) -> Recipe:
    """One recipe by name; an unknown name is refused with the known ones."""
    recipes = load_all(*folders)
    if name not in recipes:
        raise BadConfig(f"unknown recipe {name!r}; there are {', '.join(recipes)}")
    return recipes[name]


def _load(path: Path, children: tuple[str, ...]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a file and its tables; parents first, so that each file answers for itself."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfig(f"recipe {path}: {error}") from error
    if "name" in tables:
        raise BadConfig(f"recipe {path}: name is the file's name, remove the key")
    if "extends" in tables:
        chain = (*children, path.stem)
        parent = _parent(path, tables.pop("extends"), chain)
        tables = extend(_load(parent, chain)[1], tables)
    return _checked(path, tables), tables


def _parent(path: Path, name: Any, chain: tuple[str, ...]) -> Path:
    """The file of the recipe that another extends."""
    way = " -> ".join([*chain, str(name)])
    if name in chain:
        raise BadConfig(f"recipe {path}: extends: a recipe cannot extend itself ({way})")
    folders = (path.parent, SHIPPED)
    if isinstance(name, str) and NAME.fullmatch(name):
        for folder in folders:
            if (file := folder / f"{name}.toml").is_file():
                return file
    there = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    raise BadConfig(
        f"recipe {path}: extends: unknown recipe {name!r} ({way}); there are {', '.join(there)}"
    )


def _checked(path: Path, tables: Mapping[str, Any]) -> Recipe:
    """The tables as a recipe. As JSON, strictly: "60" is no number, a list may become a tuple."""
    from pydantic import ValidationError

    text = json.dumps({**tables, "name": path.stem}, default=str)
    try:
        return _adapter().validate_json(text, strict=True)
    except ValidationError as error:
        raise BadConfig(f"recipe {path}: " + "; ".join(map(_problem, error.errors()))) from error


@cache
def _adapter() -> TypeAdapter:
    from pydantic import TypeAdapter

    return TypeAdapter(Recipe)


def _problem(error: Mapping[str, Any]) -> str:
    """One problem as ``key: what is wrong``; what contradicts across sections names its own."""
    key, kind = ".".join(map(str, error["loc"])), error["type"]
    message = str(error["ctx"]["error"]) if kind == "value_error" else error["msg"]
    message = "there is no such key" if kind == "unexpected_keyword_argument" else message
    return f"{key}: {message}" if key else message


__all__ = [
    "FinetuneMixtureSection",
    "FinetuneSection",
    "GenerationSection",
    "MixtureSection",
    "ModelSection",
    "Recipe",
    "TasksSection",
    "TrainingSection",
    "get",
    "load",
    "load_all",
    "slug",
]
