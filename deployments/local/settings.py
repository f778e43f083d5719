"""The settings of this deployment, read from the environment."""

import os
from dataclasses import dataclass
from pathlib import Path

from muppet_dag.errors import BadConfig

DEFAULT_MODEL = "FacebookAI/roberta-base"


@dataclass(frozen=True)
class Settings:
    """Each field is one variable of the environment; the README has the table.

    ``home``: MUPPET_HOME, where artefacts and Dagster's own files live.
    ``source``: MUPPET_SOURCE, ``hub``, ``samples``, or a folder laid out as the Hub.
    ``model``: MUPPET_MODEL, the base model of recipes that name none (a Hub id or a folder).
    ``recipes``: MUPPET_RECIPES, a folder with more recipes.
    ``tasks``: MUPPET_TASKS, a folder with tasks of the user's own.
    ``workers``: MUPPET_WORKERS, training processes on this machine, one per GPU.
    """

    home: Path
    source: str
    model: str
    recipes: Path | None
    workers: int
    tasks: Path | None = None

    @classmethod
    def read(cls) -> "Settings":
        """Read and check them; a wrong one is refused with its name. Raises BadConfig."""
        recipes, tasks = os.environ.get("MUPPET_RECIPES"), os.environ.get("MUPPET_TASKS")
        workers = os.environ.get("MUPPET_WORKERS", "1")
        if not workers.isdigit() or workers == "0":
            raise BadConfig(
                f"MUPPET_WORKERS={workers!r}: expected a number of processes, 1 or more"
            )
        for name, folder in (("MUPPET_RECIPES", recipes), ("MUPPET_TASKS", tasks)):
            if folder and not Path(folder).is_dir():
                raise BadConfig(f"{name}={folder!r}: no such folder")
        return cls(
            home=Path(os.environ.get("MUPPET_HOME") or "~/.muppet-dag").expanduser().resolve(),
            source=_place(os.environ.get("MUPPET_SOURCE") or "hub"),
            model=_place(os.environ.get("MUPPET_MODEL") or DEFAULT_MODEL),
            recipes=Path(recipes) if recipes else None,
            workers=int(workers),
            tasks=Path(tasks).resolve() if tasks else None,
        )

    @property
    def chose_model(self) -> bool:
        """Whether a base model was named."""
        return self.model != DEFAULT_MODEL


def _place(value: str) -> str:
    """A folder as an absolute path, since Dagster's processes start elsewhere; names stay."""
    path = Path(value).expanduser()
    return str(path.resolve()) if path.is_dir() else value
