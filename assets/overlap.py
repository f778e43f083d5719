"""The overlap report: training rows that evaluation splits hold."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import about
from assets.automation import report
from assets.report import materialized, plain_errors, table
from muppet_dag import pipeline
from muppet_dag.catalogue import TASKS
from muppet_dag.corpus import overlap
from muppet_dag.store import Artefact, Store
from resources.store import ArtefactStore

#: Rows of the matrix that the page shows; all of them are in the manifest.
SHOWN = 40


def overlap_asset() -> dg.AssetsDefinition:
    """One report over all tasks that have shards."""

    @dg.asset(
        key=["overlap"],
        deps=[dg.AssetKey(["shards", name]) for name in TASKS],
        group_name="training",
        code_version=overlap.VERSION,
        description="Which training rows appear in a validation or test split, of the same or "
        "another task: equal rows, near-duplicates, shared questions, shared passages. Mixtures "
        "leave the first two kinds out.",
        owners=about.DATA,
        kinds={"duckdb", "parquet"},
        check_specs=[
            dg.AssetCheckSpec(
                "leaks",
                asset="overlap",
                description="No training row stands in an evaluation split; mixtures skip those "
                "that do.",
            )
        ],
        automation_condition=report(),
    )
    def overlaps(store: ArtefactStore) -> dg.MaterializeResult:
        with plain_errors():
            at = store.open()
            artefact = pipeline.make_overlap(at)
        return materialized(artefact, _metadata(at, artefact), [_leaks(artefact)])

    return overlaps


def _leaks(artefact: Artefact) -> dg.AssetCheckResult:
    """Training rows that an evaluation split holds, by task: worth a look, mixtures skip them."""
    affected = artefact.facts["affected"]
    leaked = {task: counts["leaked"] for task, counts in affected.items() if counts["leaked"]}
    return dg.AssetCheckResult(
        check_name="leaks", passed=not leaked, severity=dg.AssetCheckSeverity.WARN,
        metadata={"rows": sum(leaked.values()), "by_task": dg.MetadataValue.json(leaked)},
    )  # fmt: skip


def _metadata(store: Store, artefact: Artefact) -> Mapping[str, Any]:
    facts, inputs = artefact.facts, artefact.manifest.inputs
    folders = {n.split("/")[1]: store.open(n, v).path for n, v in inputs.items()}
    # The manifest keeps keys in the order of the alphabet.
    columns = ("train_task", "eval_task", *overlap.KINDS)
    matrix = [{name: row[name] for name in columns} for row in facts["matrix"]]
    return {
        "dagster/row_count": facts["overlaps"],
        **{name: facts[name] for name in ("tasks", "train_rows", "evaluation_rows")},
        "rows_to_leave_out": sum(task["leaked"] for task in facts["affected"].values()),
        "matrix": dg.MetadataValue.md(table(matrix[:SHOWN])),
        "rows_affected": dg.MetadataValue.json(facts["affected"]),
        "examples": dg.MetadataValue.md(table(overlap.examples(artefact.path, folders))),
    }
