"""How artefacts, findings and errors are reported to Dagster."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from muppet_dag import disk
from muppet_dag.corpus.quality import Finding
from muppet_dag.errors import MuppetError
from muppet_dag.store import Artefact
from muppet_dag.text import markdown, printable

#: Only what may pass by itself is tried again: the network. Bad data stays bad, a full disk full.
RETRIES = dg.RetryPolicy(
    max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.FULL
)


def materialized(
    artefact: Artefact,
    metadata: Mapping[str, Any],
    findings: list[dg.AssetCheckResult] | None = None,
) -> dg.MaterializeResult:
    """The result of an asset: its data version is the artefact's content hash."""
    shown = {
        **metadata,
        "path": dg.MetadataValue.path(str(artefact.path)),
        "dagster/uri": artefact.path.as_uri(),
        "content_hash": artefact.version,
        "made_in_this_run": artefact.fresh,
        "bytes": sum(file["bytes"] for file in artefact.manifest.files.values()),
        "inputs": dg.MetadataValue.json(dict(artefact.manifest.inputs)),
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(artefact.version), metadata=shown, check_results=findings or []
    )


def checked(finding: Finding) -> dg.AssetCheckResult:
    """A finding as an asset check result; only a blocking one is an error."""
    severity = dg.AssetCheckSeverity.ERROR if finding.blocking else dg.AssetCheckSeverity.WARN
    metadata: dict[str, Any] = {name: plain(value) for name, value in finding.numbers.items()}
    if finding.rows:
        metadata["rows"] = dg.MetadataValue.md(table(finding.rows))
    return dg.AssetCheckResult(
        check_name=finding.name, passed=finding.passed, severity=severity,
        description=printable(finding.note) or None, metadata=metadata,
    )  # fmt: skip


@contextmanager
def plain_errors() -> Iterator[None]:
    """Errors stop the asset at once; only those of a source that may recover are tried again.

    Data, settings and disks are told in a line, and what is a bug keeps its traceback below that.
    """
    try:
        yield
    except (dg.Failure, dg.RetryRequested):
        raise
    except MuppetError as error:
        raise dg.Failure(str(error), allow_retries=getattr(error, "retry", False)) from error
    except Exception as error:
        problem = disk.explained(error, Path(os.environ.get("DAGSTER_HOME", ".")))
        text = str(problem or f"{type(error).__name__}: {error}")
        raise dg.Failure(text, allow_retries=False) from error


def table(rows: list[Mapping[str, Any]]) -> str:
    """Rows as a Markdown table; columns in the order they first occur."""
    if not rows:
        return "none found"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[markdown(column) for column in columns], ["---"] * len(columns)]
    lines += [[markdown(str(row.get(column, ""))) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tracked(runs: Sequence[Mapping[str, Any]]) -> dict[str, dg.MetadataValue]:
    """Where the W&B runs of these runs' facts are: their pages, or their folders on disk."""
    places = [place for facts in runs for place in facts.get("tracked", ())]
    return {"wandb": dg.MetadataValue.md("\n".join(f"- {p}" for p in places))} if places else {}


def plain(value: Any) -> Any:
    """A number or text that Dagster accepts as metadata."""
    return value if isinstance(value, int | float) else printable(str(value))
