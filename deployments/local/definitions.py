"""What Dagster loads: the code location for the settings of the environment."""

from deployments.local.location import build
from deployments.local.settings import Settings

defs = build(Settings.read())
