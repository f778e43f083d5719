"""The settings of this deployment, read from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from muppet_dag import settings
from muppet_dag.corpus import sources
from muppet_dag.errors import BadConfig
from muppet_dag.hub import is_repository

DEFAULT_MODEL = "FacebookAI/roberta-base"
_VARIABLES = (
    "MUPPET_HOME", "MUPPET_SOURCE", "MUPPET_MODEL", "MUPPET_RECIPES", "MUPPET_TASKS",
    "MUPPET_WORKERS", "MUPPET_MEMORY", "MUPPET_SYSTEM_METRICS",
)  # fmt: skip
#: What W&B takes for WANDB_MODE; it refuses all else, and would then track nothing.
_WANDB = ("online", "offline", "disabled", "dryrun", "shared", "run")


@dataclass(frozen=True)
class Settings:
    """Each field is one variable of the environment; the README has the table.

    ``home``: MUPPET_HOME, where artefacts and Dagster's own files live.
    ``source``: MUPPET_SOURCE, ``hub``, ``samples``, or a folder laid out as the Hub.
    ``model``: MUPPET_MODEL, the base model of recipes that name none (a Hub id or a folder).
    ``recipes``: MUPPET_RECIPES, a folder with more recipes.
    ``tasks``: MUPPET_TASKS, a folder with tasks of the user's own.
    ``workers``: MUPPET_WORKERS, training processes on this machine, one per GPU.
    ``system_metrics``: MUPPET_SYSTEM_METRICS, whether W&B runs record GPUs, processors, memory.
    """

    home: Path
    source: str
    model: str
    recipes: Path | None
    workers: int
    tasks: Path | None = None
    system_metrics: bool = False

    @classmethod
    def read(cls) -> "Settings":
        """Read and check them; a wrong one is refused with its name. Raises BadConfig.

        A variable that is set to nothing is not set.
        """
        text = {name: value for name in _VARIABLES if (value := os.environ.get(name, "").strip())}
        recipes, tasks = text.get("MUPPET_RECIPES"), text.get("MUPPET_TASKS")
        source = text.get("MUPPET_SOURCE", "hub")
        settings.memory(text.get("MUPPET_MEMORY", settings.MEMORY), "MUPPET_MEMORY")
        if (mode := os.environ.get("WANDB_MODE")) and mode not in _WANDB:
            raise BadConfig(f"WANDB_MODE={mode!r}: expected one of {', '.join(_WANDB)}")
        if source != "samples":
            sources.open_source(source)
        return cls(
            home=settings.writable(text.get("MUPPET_HOME", settings.HOME)),
            source=_place(source, "MUPPET_SOURCE"),
            model=_model(text.get("MUPPET_MODEL", DEFAULT_MODEL)),
            recipes=settings.folder(recipes, "MUPPET_RECIPES") if recipes else None,
            workers=settings.count(text.get("MUPPET_WORKERS", "1"), "MUPPET_WORKERS"),
            tasks=settings.folder(tasks, "MUPPET_TASKS") if tasks else None,
            system_metrics=settings.switch(
                text.get("MUPPET_SYSTEM_METRICS", "off"), "MUPPET_SYSTEM_METRICS"
            ),
        )

    @property
    def chose_model(self) -> bool:
        """Whether a base model was named."""
        return self.model != DEFAULT_MODEL


def _place(value: str, name: str) -> str:
    """A folder as an absolute path, since Dagster's processes start elsewhere; names stay."""
    path = settings.path(value, name)
    return str(path.resolve()) if path.is_dir() else value


def _model(value: str) -> str:
    place = _place(value, "MUPPET_MODEL")
    if place == value and not Path(value).is_dir() and not is_repository(value):
        raise BadConfig(
            f"MUPPET_MODEL={value!r}: no such folder, and no name of a model on the Hub either "
            "(namespace/name)"
        )
    return place
