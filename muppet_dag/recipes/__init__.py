"""Recipes: where they lie and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag import settings
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
#: Names become folders, partition keys and names of runs.
LONGEST_NAME = 64


def load(path: Path) -> Recipe:
    """Read one TOML file; a wrong key or value is refused with its full name.

    ``extends`` names another recipe of the same folder or a shipped one. Raises BadConfig.
    """
    return _load(Path(path), ())[0]


def read_all(*folders: Path) -> tuple[dict[str, Recipe], dict[str, str]]:
    """All recipes by name, the shipped ones and those of the given folders; and of the files that
    cannot be used, what is wrong. A file of a shipped recipe's name is one of those."""
    recipes: dict[str, Recipe] = {}
    problems: dict[str, str] = {}
    for folder in (SHIPPED, *folders):
        for path in sorted(Path(folder).glob("*.toml")):
            if path.stem in recipes:
                taken = f"recipe {path}: there is already a recipe {path.stem!r}"
                problems[f"{path.parent.name}/{path.stem}"] = taken
                continue
            try:
                recipes[path.stem] = load(path)
            except BadConfig as error:
                problems[path.stem] = str(error)
    return recipes, problems


def load_all(*folders: Path) -> dict[str, Recipe]:
    """All recipes by name: the shipped ones and those of the given folders. BadConfig if one of
    them is wrong."""
    recipes, problems = read_all(*folders)
    if problems:
        raise BadConfig("; ".join(problems.values()))
    return recipes


def get(name: str, *folders: Path) -> Recipe:
    """One recipe by name; an unknown name is refused with the known ones."""
    recipes, problems = read_all(*folders)
    if name in problems:
        raise BadConfig(problems[name])
    if name not in recipes:
        raise BadConfig(f"unknown recipe {name!r}; there are {', '.join(recipes)}")
    return recipes[name]


def _load(path: Path, children: tuple[str, ...]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a file and its tables; parents first, so that each file answers for itself."""
    try:
        tables = settings.tables(path)
    except BadConfig as error:
        raise BadConfig(f"recipe {error}") from error
    if len(path.stem) > LONGEST_NAME:
        raise BadConfig(
            f"recipe {path}: a name of {len(path.stem)} characters; at most {LONGEST_NAME} are "
            "allowed"
        )
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
    "read_all",
    "slug",
]
