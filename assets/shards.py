"""Hub datasets and shards: one observable source per repository, one asset per task."""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from assets import about
from assets.automation import refresh
from assets.report import RETRIES, checked, materialized, plain_errors, table
from muppet_dag import pipeline
from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import Files
from muppet_dag.corpus import quality
from muppet_dag.corpus.schema import ABOUT, SCHEMA
from muppet_dag.errors import Absent
from muppet_dag.store import digest
from muppet_dag.text import markdown
from resources.store import ArtefactStore, DatasetSource


def repository_key(repository: str) -> dg.AssetKey:
    """``hub/<namespace>/<name>``."""
    return dg.AssetKey(["hub", *repository.split("/")])


def page(task: Task) -> dict[str, dg.MetadataValue]:
    """The page of a task's repository; a user's own files have none."""
    if isinstance(task.dataset, Files):
        return {}
    address = f"https://huggingface.co/datasets/{task.dataset.repository}"
    return {"repository": dg.MetadataValue.url(address)}


def _observable(**kwargs: Any) -> Callable[[Callable], dg.AssetsDefinition]:
    """``observable_source_asset`` without its warning, once per repository, that it is in beta."""

    def decorate(function: Callable) -> dg.AssetsDefinition:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            return dg.observable_source_asset(**kwargs)(function)

    return decorate


def repository_asset(repository: str, tasks: Sequence[Task]) -> dg.AssetsDefinition:
    """An observable source: its data version is the commit (or content hash) in use."""
    datasets = {f"{t.dataset.config}@{t.dataset.revision}": t.dataset for t in tasks}

    @_observable(
        key=repository_key(repository),
        group_name="hub",
        description=f"Dataset repository {repository}; read by {', '.join(t.name for t in tasks)}.",
        metadata=page(tasks[0]),
        tags={"muppet/kind": "dataset", "dagster/kind/huggingface": ""},
    )
    def observe(
        context: dg.OpExecutionContext, store: ArtefactStore, source: DatasetSource
    ) -> dg.ObserveResult:
        versions, absent = {}, {}
        with plain_errors():
            opened = source.open(store.open())
            for key, dataset in sorted(datasets.items()):
                try:
                    versions[key] = pipeline.source_of(dataset, opened).version(dataset)
                except Absent as error:
                    absent[key] = str(error)
                    context.log.warning(f"not in this source: {error}")
        one = set(versions.values())
        version = one.pop() if len(one) == 1 else digest(versions)
        return dg.ObserveResult(
            data_version=dg.DataVersion(version) if versions else None,
            metadata={"versions": versions, "not_in_this_source": absent},
        )

    return observe


def shards_asset(task: Task) -> dg.AssetsDefinition:
    """The shards of a task, with its checks. The same input again makes nothing."""
    key = dg.AssetKey(["shards", task.name])

    @dg.asset(
        key=key,
        deps=[repository_key(task.dataset.repository)],
        group_name=task.family,
        code_version=pipeline.shards_code(task),
        description=_description(task),
        metadata={
            **page(task),
            "licence": task.licence,
            "dagster/column_schema": about.columns(SCHEMA, ABOUT),
        },
        owners=about.DATA,
        freshness_policy=about.FRESH,
        kinds={"duckdb", "arrow"},
        tags={"muppet/family": task.family},
        check_specs=[
            dg.AssetCheckSpec(name, asset=key, blocking=check.blocking, description=check.about)
            for name, check in quality.CHECKS.items()
        ],
        retry_policy=RETRIES,
        automation_condition=refresh(),
    )
    def shards(
        store: ArtefactStore, source: DatasetSource
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        try:
            with plain_errors():
                opened = store.open()
                before = pipeline.last_facts(opened, task)
                artefact = pipeline.make_shards(opened, source.open(opened), task)
        except dg.Failure as failure:
            if isinstance(failure.__cause__, quality.Refused):
                yield from map(checked, failure.__cause__.findings)
            raise
        description = quality.describe(task, artefact.path)
        made_up = source.source == "samples"
        findings = quality.examine(task, artefact.path, artefact.facts, before, made_up=made_up)
        yield materialized(
            artefact, _metadata(artefact.facts, description), list(map(checked, findings))
        )

    return shards


def problem_asset(name: str, problem: str) -> dg.AssetsDefinition:
    """In the place of the shards of a task that cannot be used: says why, and fails with that."""

    @dg.asset(
        key=["shards", re.sub(r"\W", "_", name)],
        group_name="problems",
        description=f"Cannot be used: {markdown(problem)}",
        owners=about.DATA,
        tags={"muppet/problem": "declaration"},
    )
    def refused() -> None:
        raise dg.Failure(problem, allow_retries=False)

    return refused


def _metadata(facts: dict, description: dict) -> dict:
    splits = facts["splits"]
    counted = [
        {"split": name, "rows in": s["rows_in"], "rows": s["rows"],
         "dropped": ", ".join(f"{why} {n}" for why, n in s["dropped"].items()) or "none"}
        for name, s in splits.items()
    ]  # fmt: skip
    return {
        "dagster/row_count": sum(split["rows"] for split in splits.values()),
        "rows": dg.MetadataValue.md(table(counted)),
        "dropped": sum(sum(split["dropped"].values()) for split in splits.values()),
        "missing_splits": dg.MetadataValue.json(facts["missing"]),
        "classes": dg.MetadataValue.json(description["classes"]),
        "text_length": dg.MetadataValue.json(description["text_length"]),
        f"first_rows_of_{description['split']}": dg.MetadataValue.md(table(description["rows"])),
    }


_KINDS = {
    "classification": "Classification: a text or a pair of texts with a class or a number.",
    "commonsense": "Multiple choice: the right one of several candidates.",
    "mrc": "Reading comprehension: the span of the passage that answers the question.",
    "summarization": "Summarization: a document and the summary to write.",
}


def _description(task: Task) -> str:
    dataset = task.dataset
    lines = [
        task.about or _KINDS[task.family],
        f"Source: `{dataset.repository}` / `{dataset.config}` at `{dataset.revision}`.",
        f"Classes: {', '.join(task.classes)}." if task.classes else "",
        f"Metrics: {', '.join(task.metrics)}. Licence: {task.licence}.",
        f"Citation: {task.citation}." if task.citation else "",
    ]
    return "\n\n".join(line for line in lines if line)
