"""Base models and tokens."""

import dagster as dg
import pyarrow as pa

from assets import about
from assets.automation import refresh
from assets.partitions import Plan
from assets.report import RETRIES, materialized, plain, plain_errors
from muppet_dag import pipeline
from muppet_dag.catalogue import Task
from muppet_dag.corpus import tokenize
from resources.store import ArtefactStore


def base_asset(plan: Plan) -> dg.AssetsDefinition:
    """The pretrained models that recipes start from, one partition each."""

    @dg.asset(
        key=["base_model"],
        partitions_def=plan.by_base,
        group_name="base",
        code_version="1",
        description="Pretrained models: from the Hub at a pinned commit, a folder, or made here.",
        owners=about.MODELS,
        kinds={"huggingface"},
        retry_policy=RETRIES,
    )
    def base_model(context: dg.AssetExecutionContext, store: ArtefactStore) -> dg.MaterializeResult:
        recipe = plan.with_base(context.partition_key)
        with plain_errors():
            base = recipe.base(plan.default_base)
            artefact = pipeline.make_base(store.open(), base, recipe.model.revision)
        return materialized(artefact, {name: plain(v) for name, v in artefact.facts.items()})

    return base_model


def tokens_asset(task: Task, plan: Plan) -> dg.AssetsDefinition:
    """A task's tokens, one partition for each tokenizer and input length."""
    mapping = plan.base_to_tokens()

    @dg.asset(
        key=["tokens", task.name],
        deps=[
            dg.AssetKey(["shards", task.name]),
            dg.AssetDep(dg.AssetKey(["base_model"]), partition_mapping=mapping),
        ],
        partitions_def=plan.by_tokenizer,
        group_name=task.family,
        code_version=tokenize.VERSION,
        description=f"Model inputs of {task.name}, tokenized once and read by memory map.",
        metadata={"dagster/column_schema": about.columns(tokenize.schema(pa.int32()))},
        owners=about.DATA,
        kinds={"huggingface", "arrow"},
        tags={"muppet/family": task.family},
        automation_condition=refresh(),
    )
    def tokens(context: dg.AssetExecutionContext, store: ArtefactStore) -> dg.MaterializeResult:
        recipe = plan.with_tokenizer(context.partition_key)
        with plain_errors():
            artefact = pipeline.make_tokens(store.open(), recipe, plan.default_base, task)
        splits = artefact.facts["splits"]
        return materialized(
            artefact,
            {
                "dagster/row_count": sum(split["rows"] for split in splits.values()),
                "tokens": sum(split["tokens"] for split in splits.values()),
                "longest": max(split["longest"] for split in splits.values()),
                "splits": dg.MetadataValue.json(splits),
            },
        )

    return tokens
