"""Pre-finetuned models and fine-tuned models."""

from dataclasses import asdict

import dagster as dg

from assets import about
from assets.automation import follow
from assets.partitions import Plan
from assets.report import materialized, plain_errors
from assets.runs import all_seeds, one_run
from muppet_dag import pipeline
from muppet_dag.store import Artefact
from resources.launcher import Launcher
from resources.store import ArtefactStore
from resources.tracker import Tracker

#: One slot per GPU group; ``dagster.yaml`` gives pools a limit of 1.
GPU = "gpu"


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
        description="Pre-finetuned on the mixture: encoder in transformers' format, heads beside. "
        'A partition is a recipe, a training run of its own: "Materialize all" takes every one.',
        owners=about.MODELS,
        kinds={"pytorch", "huggingface"},
        pool=GPU,
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
            about.tag_run(context, recipe=recipe.name)
            mixture = at.require(f"mixture/{recipe.name}")
            config = {"recipe": asdict(recipe), "versions": _versions(mixture)}
            tags = ("prefinetuned", recipe.name, recipe.mixture.strategy)
            with launcher.training(context, tracker, config, tags) as launch:
                artefact = pipeline.prefinetune(at, recipe, plan.default_base, launch)
                launch.conclude(artefact, [artefact.facts])
                launch.upload("model", artefact)
                launch.upload("mixture", mixture)
        return materialized(artefact, one_run(artefact.facts, artefact.path / "metrics.jsonl"))

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
        owners=about.MODELS,
        kinds={"pytorch", "huggingface"},
        pool=GPU,
        automation_condition=follow(),
    )
    def finetuned(
        context: dg.AssetExecutionContext,
        store: ArtefactStore,
        launcher: Launcher,
        tracker: Tracker,
    ) -> dg.MaterializeResult:
        arm, at = plan.arms[context.partition_key], store.open()
        recipe = {} if arm.baseline else {"recipe": arm.recipe.name}
        about.tag_run(context, arm=arm.name, task=task, **recipe)
        with plain_errors():
            init, tokens = at.require(arm.start), at.require(arm.tokens(task))
            config = {"arm": arm.name, "recipes": plan.sharing(arm), "initialisation": arm.side,
                      "finetune": asdict(arm.recipe.finetune), "task": task, "start": arm.start,
                      "versions": _versions(init) | _versions(tokens)}  # fmt: skip
            tags = ("finetuned", arm.title, arm.side, task)
            with launcher.training(context, tracker, config, tags) as launch:
                artefact = pipeline.finetune(at, arm, task, launch)
                facts = {str(s): artefact.facts["runs"][str(s)] for s in artefact.facts["seeds"]}
                launch.conclude(artefact, list(facts.values()))
        files = {seed: artefact.path / f"seed-{seed}" / "metrics.jsonl" for seed in facts}
        return materialized(artefact, {**all_seeds(facts, files), "recipes": plan.sharing(arm)})

    return finetuned


def _versions(artefact: Artefact) -> dict[str, str]:
    """The artefact and its inputs by version, as the W&B run records them."""
    return {artefact.manifest.name: artefact.version, **artefact.manifest.inputs}
