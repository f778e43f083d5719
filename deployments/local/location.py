"""The code location of one machine: assets of all recipes, with their resources."""

import logging

import dagster as dg

from assets import automation
from assets.definitions import all_assets, all_jobs
from assets.partitions import Plan
from deployments.local import retention
from deployments.local.settings import Settings
from muppet_dag import catalogue, recipes
from resources.launcher import Launcher
from resources.store import ArtefactStore, DatasetSource
from resources.tracker import Tracker

log = logging.getLogger(__name__)


def build(settings: Settings) -> dg.Definitions:
    """Definitions for these settings."""
    if settings.tasks:
        catalogue.extend(settings.tasks)
    folders = [settings.recipes] if settings.recipes else []
    loaded, problems = recipes.read_all(*folders)
    plan = Plan.of(loaded, settings.model, problems)
    for problem in (*catalogue.PROBLEMS.values(), *plan.problems.values()):
        log.warning("left out: %s", problem)
    jobs = all_jobs(plan)
    return dg.Definitions(
        assets=all_assets(plan),
        jobs=[*jobs, retention.forget_old_runs],
        schedules=[automation.observe_schedule(jobs[0]), retention.schedule],
        sensors=[automation.sensor()],
        resources={
            "store": ArtefactStore(home=str(settings.home)),
            "source": DatasetSource(source=settings.source),
            "launcher": Launcher(workers=settings.workers, lock=str(settings.home / ".gpu.lock")),
            "tracker": Tracker(
                directory=str(settings.home / "wandb"), system_metrics=settings.system_metrics
            ),
        },
        # A step here is a call into DuckDB, Rust or a process of its own, all of which use every
        # core; a process per step would cost more than most steps take.
        executor=dg.in_process_executor,
    )
