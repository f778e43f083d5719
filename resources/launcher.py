"""Starts training processes with torchrun and listens to them through Dagster Pipes."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from muppet_dag.training.launch import Launch, command, environment, raise_if_stopped
from resources.follow import follow
from resources.tracker import Run, Tracker


class Launcher(dg.ConfigurableResource):
    """``workers`` processes on this machine, one per GPU; ``torchrun`` options for several machines
    (``--nnodes 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT``), else none."""

    workers: int = 1
    torchrun: list[str] = Field(default_factory=lambda: ["--standalone"])

    def launch(
        self, context: dg.AssetExecutionContext, tracker: Tracker, config: Mapping[str, Any]
    ) -> Launch:
        """A function that runs job files in one process group, each followed by a W&B run.

        ``config`` is what the W&B runs say of themselves; their group is the Dagster run.
        """

        def tracked(job: Path) -> AbstractContextManager[Run]:
            kind = context.asset_key.path[0]
            return tracker.run(
                name=_name(context, job), group=context.run_id, config=config,
                job_type=kind, id=_id(job),
            )  # fmt: skip

        def run(jobs: Sequence[Path]) -> None:
            with ExitStack() as stack:
                runs = [stack.enter_context(tracked(job)) for job in jobs]
                context.add_asset_metadata({"wandb": _places(runs)})
                for job, tracked_run in zip(jobs, runs, strict=True):
                    stack.enter_context(follow(job.parent / "metrics.jsonl", tracked_run))
                with warnings.catch_warnings():  # Pipes warns of its own preview features
                    warnings.simplefilter("ignore", dg.PreviewWarning)
                    _run(context, command(jobs, self.workers, self.torchrun), self.workers, jobs)

        return run


def _run(
    context: dg.AssetExecutionContext, command: list[str], workers: int, jobs: Sequence[Path]
) -> None:
    """Wait for the workers. Raises Interrupted if they were asked to stop, as by Ctrl-C or a
    cancelled run: a retry, which is for what went wrong, would start them again."""
    try:
        dg.PipesSubprocessClient().run(context=context, command=command, env=environment(workers))
    except Exception:
        raise_if_stopped(jobs)
        raise


def _places(runs: Sequence[Run]) -> dg.MetadataValue:
    """Where the W&B runs are: their pages, or their folders on disk."""
    return dg.MetadataValue.md("\n".join(f"- {run.url or run.path or 'off'}" for run in runs))


_LONGEST = 128  # characters that W&B takes for a run's name


def _name(context: dg.AssetExecutionContext, job: Path) -> str:
    seed = f".{job.parent.name}" if job.parent.name.startswith("seed-") else ""
    name = f"{context.asset_key.path[0]}.{context.partition_key}"
    return f"{name[: _LONGEST - len(seed)]}{seed}"


def _id(job: Path) -> str:
    """The same id when a killed run is resumed: the workspace is named by its inputs' hash."""
    parts = job.parent.parts
    if "work" in parts:  # the store's; a folder above it may have the name too
        parts = parts[len(parts) - parts[::-1].index("work") :]
    return "-".join(parts[-2:])
