"""Recipes: where they lie and how they are read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from muppet_dag.errors import BadConfig
from muppet_dag.recipes.recipe import (
    FinetuneSection,
    MixtureSection,
    ModelSection,
    Recipe,
    TasksSection,
    TrainingSection,
    slug,
)

SHIPPED = Path(__file__).parent


def load(path: Path) -> Recipe:
    """Read one TOML file; a wrong key or value is refused with its full name.

    Raises BadConfig.
    """
    from pydantic import TypeAdapter, ValidationError

    path = Path(path)
    try:
        said = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"recipe {path}: {error}") from error
    if "name" in said:
        raise BadConfig(f"recipe {path}: name is the file's name, remove the key")
    try:
        return TypeAdapter(Recipe).validate_json(
            # As JSON, strictly: "60" is no number, while a list may become a tuple.
            json.dumps({**said, "name": path.stem}),
            strict=True,
        )
    except ValidationError as error:
        problems = [f"{_key(e['loc'])}: {e['msg']}" for e in error.errors()]
        raise BadConfig(f"recipe {path}: " + "; ".join(problems)) from error


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


def _key(loc: tuple) -> str:
    return ".".join(str(part) for part in loc) or "recipe"


__all__ = [
    "FinetuneSection",
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
