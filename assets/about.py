"""What Dagster's pages say of an asset beside its numbers: owners, columns, freshness, run tags."""

from collections.abc import Mapping
from datetime import timedelta

import dagster as dg
import pyarrow as pa

#: Whom to ask. A deployment with people of its own puts their addresses here.
DATA, MODELS = ["team:data"], ["team:models"]
#: Shards that nobody has looked at for so long. To materialize them again makes nothing anew where
#: the dataset is as it was; a nightly observation tells sooner where it is not.
FRESH = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(days=180), warn_window=timedelta(days=90)
)


def columns(schema: pa.Schema, about: Mapping[str, str] | None = None) -> dg.TableSchema:
    """An Arrow schema as Dagster's table of columns, and ``about`` them what people should know."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.name, str(field.type), description=(about or {}).get(field.name),
                constraints=dg.TableColumnConstraints(nullable=field.nullable),
            )
            for field in schema
        ]
    )  # fmt: skip


def tag_run(context: dg.AssetExecutionContext, **values: str) -> None:
    """Tag the run with its recipe, arm or task, so that the list of runs can be asked for them."""
    tags = {f"muppet/{name}": value for name, value in values.items()}
    context.instance.add_run_tags(context.run_id, tags)
