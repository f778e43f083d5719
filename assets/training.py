"""Pre-finetuned models and fine-tuned models."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from assets.automation import follow
from assets.partitions import Plan
from assets.pictures import curves, time_split
from assets.report import materialized, plain, plain_errors, tracked
from muppet_dag import pipeline
from muppet_dag.store import Artefact
from resources.launcher import Launcher
from resources.store import ArtefactStore
from resources.tracker import Tracker

#: One slot per GPU group; ``dagster.yaml`` gives pools a limit of 1.
GPU = "gpu"
#: A training run that was cut off goes on from its last checkpoint.
RESUME = dg.RetryPolicy(max_retries=1)
#: What a run says of its choice of the best state, and of steps it had to skip.
CHOICE = ("stopped_early", "best_step", "best_score", "skipped")


def prefinetuned_asset(plan: Plan) -> dg.AssetsDefinition:
    """The base model after multi-task training, one partition per recipe."""

    @dg.asset(
        key=["prefinetuned"],
        deps=[
            dg.AssetKey(["mixture"]),
            dg.AssetDep(dg.AssetKey(["base_model"]), partition_mapping=plan.base_to_recipe()),
        ],
        partitions_def=plan.by_recipe,
        group_name="training",
        code_version=pipeline.TRAINING_VERSION,
        description="Pre-finetuned on the mixture: encoder in transformers' format, heads beside.",
        kinds={"torch", "transformers"},
        pool=GPU,
        retry_policy=RESUME,
        automation_condition=follow(),
    )
    def prefinetuned(
        context: dg.AssetExecutionContext,
        store: ArtefactStore,
        launcher: Launcher,
        tracker: Tracker,
    ) -> dg.MaterializeResult:
        with plain_errors():
            recipe, at = plan.recipe(context.partition_key), store.open()
            mixture = at.require(f"mixture/{recipe.name}")
            config = {"recipe": asdict(recipe), "versions": _versions(mixture)}
            tags = ("prefinetuned", recipe.name, recipe.mixture.strategy)
            with launcher.training(context, tracker, config, tags) as launch:
                artefact = pipeline.prefinetune(at, recipe, plan.default_base, launch)
                launch.conclude(artefact, [artefact.facts])
                launch.upload("model", artefact)
                launch.upload("mixture", mixture)
        metadata = {**_metrics(artefact.facts), **_speed(artefact.path)}
        return materialized(artefact, {**metadata, **tracked([artefact.facts])})

    return prefinetuned


def finetuned_asset(task: str, plan: Plan) -> dg.AssetsDefinition:
    """A downstream task tuned from each arm, all seeds; a partition is an arm."""

    @dg.asset(
        key=["finetuned", task],
        deps=[
            dg.AssetDep(dg.AssetKey(["base_model"]), partition_mapping=plan.base_to_arms(task)),
            dg.AssetDep(dg.AssetKey(["prefinetuned"]), partition_mapping=plan.recipe_to_arms(task)),
            dg.AssetDep(dg.AssetKey(["tokens", task]), partition_mapping=plan.tokens_to_arms(task)),
        ],
        partitions_def=plan.by_arm(task),
        group_name="downstream",
        code_version=pipeline.TRAINING_VERSION,
        description=f"Fine-tuned on {task}, from a base model (base.…) or from what a recipe has "
        "pre-finetuned: predictions of every seed.",
        kinds={"torch", "transformers"},
        pool=GPU,
        retry_policy=RESUME,
        automation_condition=follow(),
    )
    def finetuned(
        context: dg.AssetExecutionContext,
        store: ArtefactStore,
        launcher: Launcher,
        tracker: Tracker,
    ) -> dg.MaterializeResult:
        arm, at = plan.arms[context.partition_key], store.open()
        with plain_errors():
            init, tokens = at.require(arm.start), at.require(arm.tokens(task))
            config = {"arm": arm.name, "recipes": plan.sharing(arm), "initialisation": arm.side,
                      "finetune": asdict(arm.recipe.finetune), "task": task, "start": arm.start,
                      "versions": _versions(init) | _versions(tokens)}  # fmt: skip
            tags = ("finetuned", arm.title, arm.side, task)
            with launcher.training(context, tracker, config, tags) as launch:
                artefact = pipeline.finetune(at, arm, task, launch)
                runs = list(artefact.facts["runs"].values())
                launch.conclude(artefact, runs)
        seed = artefact.facts["seeds"][0]
        picture = curves(artefact.path / f"seed-{seed}" / "metrics.jsonl")
        first = _metrics(artefact.facts["runs"][str(seed)])
        metadata = {**first, "curves": dg.MetadataValue.md(picture), "recipes": plan.sharing(arm)}
        return materialized(artefact, {**metadata, **tracked(runs)})

    return finetuned


def _versions(artefact: Artefact) -> dict[str, str]:
    """The artefact and its inputs by version, as the W&B run records them."""
    return {artefact.manifest.name: artefact.version, **artefact.manifest.inputs}


def _metrics(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A run's last numbers; the steps it took, and its best one where it looked for that."""
    metrics = facts["metrics"]
    several = {n: v for n, v in metrics.items() if n.startswith("validation/") and n.count("/") > 1}
    return {
        **{name: plain(v) for name, v in metrics.items() if name.count("/") == 1},
        **{n: plain(facts[n]) for n in ("steps", *CHOICE) if facts.get(n) is not None},
        **({"validation": dg.MetadataValue.json(several)} if several else {}),
    }


def _speed(folder: Path) -> dict[str, Any]:
    """How fast it went, and the curves as a picture in the page."""
    metrics = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    speeds = [
        line["train/tokens_per_second"] for line in lines if "train/tokens_per_second" in line
    ]
    return {
        **({"tokens_per_second": median(speeds)} if speeds else {}),
        "time_split": dg.MetadataValue.json(time_split(metrics)),
        "curves": dg.MetadataValue.md(curves(metrics)),
    }
