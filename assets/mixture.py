"""Mixtures: which rows of which tasks a recipe trains on, in which order."""

import warnings
from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import about
from assets.automation import retrain
from assets.partitions import Plan
from assets.report import materialized, plain_errors, table
from muppet_dag import pipeline
from muppet_dag.catalogue import TASKS
from muppet_dag.mixture import index
from muppet_dag.store import Artefact
from resources.store import ArtefactStore


class MixtureConfig(dg.Config):
    """``steps`` replaces the recipe's budget for this run."""

    steps: int | None = None


def mixture_asset(plan: Plan) -> dg.AssetsDefinition:
    """The sampling index of each recipe."""

    @dg.asset(
        key=["mixture"],
        deps=[
            dg.AssetDep(
                dg.AssetKey(["tokens", name]), partition_mapping=plan.tokens_to_recipe(name)
            )
            for name in TASKS
            if plan.readers(name)
        ]
        + [dg.AssetDep(dg.AssetKey(["overlap"]))],
        partitions_def=plan.by_recipe,
        group_name="training",
        code_version=index.VERSION,
        description="Which rows make which slot of which step: step, slot, task, row.",
        owners=about.DATA,
        kinds={"arrow"},
        check_specs=[_complete_spec(plan)],
        automation_condition=retrain(),
    )
    def mixture(
        context: dg.AssetExecutionContext, config: MixtureConfig, store: ArtefactStore
    ) -> dg.MaterializeResult:
        with plain_errors():
            recipe = plan.recipe(context.partition_key)
            about.tag_run(context, recipe=recipe.name)
            artefact = pipeline.make_mixture(
                store.open(), recipe, plan.default_base, steps=config.steps
            )
        held, selected = pipeline.coverage(artefact)
        if held < selected:
            left_out = artefact.facts["left_out"]
            reasons = ", ".join(f"{name} ({why})" for name, why in sorted(left_out.items()))
            context.log.warning(f"{held} of {selected} tasks; left out: {reasons}")
        return materialized(artefact, _metadata(artefact), [_complete(artefact)])

    return mixture


def _complete_spec(plan: Plan) -> dg.AssetCheckSpec:
    """A check of each partition: without partitions of its own the last recipe drawn would speak
    for all. Dagster warns that this is a preview."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            "complete", asset="mixture", partitions_def=plan.by_recipe,
            description="Every task that the recipe selects is in the mixture.",
        )  # fmt: skip


def _complete(artefact: Artefact) -> dg.AssetCheckResult:
    held, selected = pipeline.coverage(artefact)
    return dg.AssetCheckResult(
        check_name="complete", passed=held == selected, severity=dg.AssetCheckSeverity.WARN,
        description=f"{held} of {selected} tasks",
        metadata={"tasks": held, "selected": selected, "left_out": _left_out(artefact)},
    )  # fmt: skip


def _left_out(artefact: Artefact) -> dg.MetadataValue:
    left_out = artefact.facts["left_out"]
    rows = [{"task": name, "why": why} for name, why in sorted(left_out.items())]
    return dg.MetadataValue.md(table(rows))


def _metadata(artefact: Artefact) -> Mapping[str, Any]:
    facts = artefact.facts
    held, selected = pipeline.coverage(artefact)
    return {
        "tasks": f"{held} of {selected} tasks",
        "left_out": _left_out(artefact),
        "dagster/row_count": facts["rows"],
        **{name: facts[name] for name in ("steps", "slots", "tokens", "epochs")},
        "useful_share": facts["tokens"] / facts["padded_tokens"],
        **{
            name: dg.MetadataValue.json(facts[name])
            for name in ("rows_by_task", "shares", "slot_shares", "passes")
            if name in facts  # an older mixture has no slot_shares
        },
        "decontaminated": sum(facts["decontaminated"].values()),
        "decontaminated_by_task": dg.MetadataValue.json(facts["decontaminated"]),
    }
