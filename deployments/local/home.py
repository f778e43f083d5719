"""Dagster's own folder of this deployment."""

import os
import shutil
from pathlib import Path

from deployments.local.settings import Settings


def prepare(settings: Settings) -> Path:
    """Make ``$MUPPET_HOME/dagster`` with this deployment's ``dagster.yaml``, and make it
    DAGSTER_HOME unless one is set already; returns the folder in use."""
    chosen = os.environ.get("DAGSTER_HOME")
    folder = Path(chosen) if chosen else settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    if not chosen:
        shutil.copyfile(Path(__file__).with_name("dagster.yaml"), folder / "dagster.yaml")
        os.environ["DAGSTER_HOME"] = str(folder)
    return folder


if __name__ == "__main__":
    print(prepare(Settings.read()))
