"""Evaluations and the leaderboard."""

import dagster as dg

from assets import about
from assets.automation import follow
from assets.partitions import Plan
from assets.pictures import inline
from assets.report import materialized, plain_errors, table
from muppet_dag import catalogue, pipeline
from muppet_dag.store import Artefact
from resources.store import ArtefactStore
from resources.tracker import Tracker


def evaluation_asset(task: str, plan: Plan) -> dg.AssetsDefinition:
    """A task's own metrics over all seeds; a partition is an arm."""

    @dg.asset(
        key=["evaluation", task],
        deps=[dg.AssetKey(["finetuned", task])],
        partitions_def=plan.by_arm(task),
        group_name="downstream",
        code_version=pipeline.EVALUATION_VERSION,
        description=f"The metrics of {task} on its validation split, seed by seed.",
        owners=about.MODELS,
        kinds={"python"},
        automation_condition=follow(),
    )
    def evaluation(context: dg.AssetExecutionContext, store: ArtefactStore) -> dg.MaterializeResult:
        with plain_errors():
            arm = plan.arms[context.partition_key]
            artefact = pipeline.evaluate(store.open(), arm, catalogue.get(task))
        scores = artefact.facts["scores"]
        means = {
            name: sum(values) / len(values)
            for name in dict.fromkeys(score["metric"] for score in scores)
            if (values := [score["value"] for score in scores if score["metric"] == name])
        }
        return materialized(artefact, {**means, "scores": dg.MetadataValue.md(table(scores))})

    return evaluation


def leaderboard_asset(plan: Plan) -> dg.AssetsDefinition:
    """Base against pre-finetuned, mean and spread over seeds."""

    @dg.asset(
        key=["leaderboard"],
        deps=[dg.AssetKey(["evaluation", task]) for task in plan.downstream],
        group_name="results",
        code_version=pipeline.EVALUATION_VERSION,
        description="Fine-tuned from the base model against fine-tuned from the pre-finetuned one.",
        owners=about.MODELS,
        kinds={"duckdb"},
        automation_condition=follow(),
    )
    def leaderboard(
        context: dg.AssetExecutionContext, store: ArtefactStore, tracker: Tracker
    ) -> dg.MaterializeResult:
        import pyarrow.parquet as pq

        from muppet_dag.evaluation.leaderboard import markdown

        with plain_errors():
            recipes = plan.recipes.values()
            artefact = pipeline.make_leaderboard(store.open(), recipes, plan.default_base)
        summary = pq.read_table(artefact.path / "leaderboard.parquet")
        picture = (artefact.path / "leaderboard.png").read_bytes()
        if artefact.fresh:
            _track(context, tracker, artefact, summary.to_pylist())
        return materialized(
            artefact,
            {
                "leaderboard": dg.MetadataValue.md(markdown(summary)),
                "picture": dg.MetadataValue.md(inline(picture, "leaderboard")),
                "database": dg.MetadataValue.path(str(artefact.path / "leaderboard.duckdb")),
                "evaluations": artefact.facts["evaluations"],
            },
        )

    return leaderboard


def _track(
    context: dg.AssetExecutionContext, tracker: Tracker, artefact: Artefact, rows: list[dict]
) -> None:
    """A W&B run whose summary is the leaderboard: ``recipe/task/metric/gain``, and both means."""
    numbers = ("base_mean", "prefinetuned_mean", "gain")
    config = {"versions": {artefact.manifest.name: artefact.version, **artefact.manifest.inputs}}
    with tracker.run(
        name="leaderboard", group=context.run_id, config=config, job_type="leaderboard",
        id=f"leaderboard-{artefact.version}", tags=["leaderboard"],
    ) as run:  # fmt: skip
        context.log.info(f"W&B run leaderboard: {run.place or 'off'}")
        run.summary(
            {f"{row['recipe']}/{row['task']}/{row['metric']}/{name}": row[name]
             for row in rows for name in numbers}
        )  # fmt: skip
        files = [artefact.path / name for name in ("leaderboard.parquet", "leaderboard.png")]
        run.artifact("leaderboard", "leaderboard", files, {"content_hash": artefact.version})
