"""A small DAG for tests: few tasks of the samples, a tiny model, a recipe of a few steps.

Also a program: ``python tests/dag.py HOME SOURCE RECIPES`` materializes all of it, so that tests
can kill it from outside.
"""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
from dagster._core.execution.plan.objects import ErrorSource

from assets.partitions import Plan
from deployments.local.location import build
from deployments.local.settings import Settings
from muppet_dag import recipes
from muppet_dag.training import parent

TASKS = ("cola", "copa", "rte", "squad", "stsb")
NAME = "few"
RECIPE = """
[model]
base = "tiny-bert"
max_length = 64
stride = 16
[tasks]
families = []
include = ["cola", "copa", "rte", "squad", "stsb"]
[mixture]
slot_tokens = 1024
slot_rows = 16
slots_per_step = 4
steps = 6
[training]
learning_rate = 1e-3
checkpoint_every = 2
validate_every = 6
validation_rows = 8
log_every = 2
[finetune]
tasks = ["rte"]
seeds = [1, 2]
evaluation_rows = 16
[finetune.mixture]
slot_tokens = 512
slot_rows = 8
slots_per_step = 1
steps = 3
[finetune.training]
checkpoint_every = 2
validate_every = 3
validation_rows = 8
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def settings(home: Path, source: str, folder: Path) -> Settings:
    """Settings with the test recipe beside the shipped ones; one that is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / f"{NAME}.toml").exists():
        (folder / f"{NAME}.toml").write_text(RECIPE)
    return Settings(home=home, source=source, model="tiny-bert", recipes=folder, workers=1)


def plan(chosen: Settings) -> Plan:
    """The plan of the test recipe alone."""
    return Plan({NAME: recipes.get(NAME, chosen.recipes)}, chosen.model)


def run(
    chosen: Settings, instance: dg.DagsterInstance, *keys: str, partition: str | None = None
) -> dg.ExecuteInProcessResult:
    """Materialize assets (``shards/cola``) in one run; failures are in the result."""
    job = build(chosen).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey(key.split("/")) for key in keys],
        partition_key=partition, instance=instance, run_config=QUIET, raise_on_error=False,
    )  # fmt: skip
    failed = [e.step_failure_data for e in result.all_events if e.is_step_failure]
    if any(failure.error_source == ErrorSource.INTERRUPT for failure in failed):
        raise KeyboardInterrupt
    return result


def run_all(chosen: Settings, instance: dg.DagsterInstance) -> list[dg.ExecuteInProcessResult]:
    """The whole way from shards to the leaderboard."""
    small = plan(chosen)
    recipe = small.recipes[NAME]
    ran = [
        run(chosen, instance, *(f"shards/{name}" for name in TASKS)),
        run(chosen, instance, "overlap"),
        run(chosen, instance, "base_model", partition=small.base(recipe)),
    ]
    made = [f"tokens/{n}" for n in TASKS if (chosen.home / "shards" / n / "current").is_file()]
    ran += [
        run(chosen, instance, *made, partition=small.tokenizer(recipe)),
        run(chosen, instance, "mixture", "prefinetuned", partition=NAME),
    ]
    for task, arms in small.downstream.items():
        for arm in arms:
            keys = (f"finetuned/{task}", f"evaluation/{task}")
            ran.append(run(chosen, instance, *keys, partition=arm.name))
    return [*ran, run(chosen, instance, "leaderboard")]


def failure(result: dg.ExecuteInProcessResult, step: str) -> str:
    """The innermost message of a failed step."""
    event = next(e for e in result.all_events if e.is_step_failure and e.step_key == step)
    error = event.step_failure_data.error
    while error.cause:
        error = error.cause
    return error.message


if __name__ == "__main__":
    parent.watch()
    home, source, folder = (Path(arg) for arg in sys.argv[1:4])
    with dg.DagsterInstance.ephemeral() as ephemeral:
        ran = run_all(settings(home, str(source), folder), ephemeral)
    sys.exit(not all(result.success for result in ran))
