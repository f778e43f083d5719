"""Dagster's own folder of this deployment."""

import os
import sys
from pathlib import Path

from deployments.local.settings import Settings
from muppet_dag import disk
from muppet_dag.errors import MuppetError
from muppet_dag.files import write_atomic
from muppet_dag.settings import writable


def prepare(settings: Settings) -> Path:
    """Make ``$MUPPET_HOME/dagster`` with this deployment's ``dagster.yaml``, and make it
    DAGSTER_HOME unless one is set already; returns the folder in use. BadConfig if it cannot be
    written to."""
    if chosen := os.environ.get("DAGSTER_HOME"):
        return writable(chosen, "DAGSTER_HOME")
    folder = writable(settings.home / "dagster")
    with disk.plain_errors(folder, "preparing Dagster's folder"):
        text = Path(__file__).with_name("dagster.yaml").read_text(encoding="utf-8")
        write_atomic(folder / "dagster.yaml", text)
    os.environ["DAGSTER_HOME"] = str(folder)
    return folder


def main() -> None:
    """Print the folder; what is wrong with the settings ends it with one line."""
    try:
        print(prepare(Settings.read()))
    except MuppetError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
