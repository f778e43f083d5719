"""Starts training processes with torchrun and listens to them through Dagster Pipes."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from muppet_dag.files import lock, read_json, write_atomic
from muppet_dag.store import Artefact
from muppet_dag.training.launch import TRACKED
from muppet_dag.training.launch import run as train
from resources.follow import follow
from resources.tracker import Run, Tracker


class Launcher(dg.ConfigurableResource):
    """``workers`` processes on this machine, one per GPU; ``torchrun`` options for several machines
    (``--nnodes 8 --rdzv-backend c10d --rdzv-endpoint HOST:PORT``), else none. ``lock`` is a file
    that is held while training runs: whatever started it, these GPUs train one job at a time."""

    workers: int = 1
    lock: str | None = None
    torchrun: list[str] = Field(default_factory=lambda: ["--standalone"])

    @contextmanager
    def training(
        self,
        context: dg.AssetExecutionContext,
        tracker: Tracker,
        config: Mapping[str, Any],
        tags: Sequence[str] = (),
    ) -> Iterator["Training"]:
        """What runs job files in one process group, each followed by a W&B run.

        ``config`` and ``tags`` are what the W&B runs say of themselves, beside each job's seed;
        their group is the Dagster run. They stay open to the end of the block.
        """

        def tracked(job: Path) -> AbstractContextManager[Run]:
            return tracker.run(
                name=_name(context, job), group=context.run_id,
                config={**config, "seed": json.loads(job.read_text())["seed"]},
                job_type=context.asset_key.path[0], id=_id(job), tags=tags,
            )  # fmt: skip

        with ExitStack() as stack:
            yield Training(self, context, lambda job: stack.enter_context(tracked(job)))


class Training:
    """Runs job files (a ``Launch``), and tells their W&B runs what became of them."""

    def __init__(
        self, launcher: Launcher, context: dg.AssetExecutionContext, track: Callable[[Path], Run]
    ) -> None:
        self._launcher, self._context, self._track = launcher, context, track
        self.runs: list[Run] = []

    def __call__(self, jobs: Sequence[Path]) -> None:
        """Train. Raises Interrupted if the workers were asked to stop, as by Ctrl-C."""
        with ExitStack() as held:
            if self._launcher.lock:
                purpose = f"trains {_name(self._context, jobs[0])}"
                held.enter_context(
                    lock(Path(self._launcher.lock), purpose, self._context.log.warning)
                )
            self.runs = [self._track(job) for job in jobs]
            for job, run in zip(jobs, self.runs, strict=True):
                self._context.log.info(f"W&B run {_name(self._context, job)}: {run.place or 'off'}")
                _keep(job.parent / TRACKED, run.place)
                held.enter_context(follow(job.parent / "metrics.jsonl", run))
            train(
                jobs, self._launcher.workers, self._launcher.torchrun,
                session=lambda: _pipes(self._context), notify=self._context.log.warning,
            )  # fmt: skip

    def conclude(self, artefact: Artefact, facts: Sequence[Mapping[str, Any]]) -> None:
        """Write the model's hash and path and each run's last numbers into the runs' summaries.
        Nothing is written where nothing was trained."""
        for run, its in zip(self.runs, facts, strict=False):
            validation = {k: v for k, v in its["metrics"].items() if k.startswith("validation/")}
            model = {"model": artefact.version, "path": str(artefact.path)}
            run.summary({**its, **validation, **model})

    def upload(self, kind: str, artefact: Artefact) -> None:
        """Make an artefact one of W&B's, where the runs are online: ``kind`` is its type."""
        for run in self.runs[:1]:
            run.artifact(
                artefact.manifest.name, kind, artefact.path,
                {"content_hash": artefact.version, "inputs": dict(artefact.manifest.inputs)},
            )  # fmt: skip


def _keep(path: Path, place: str | None) -> None:
    """Add where a run can be followed to those of its earlier starts, which it goes on from."""
    known = read_json(path, list) or []
    if place and place not in known:
        write_atomic(path, json.dumps([*known, place]))


@contextmanager
def _pipes(context: dg.AssetExecutionContext) -> Iterator[Mapping[str, str]]:
    """The environment that one attempt reports through. Dagster's own client would wait 20 s for
    a process it interrupts, leave it running after that, and call it a failure."""
    with warnings.catch_warnings():  # Pipes warns of its own preview features
        warnings.simplefilter("ignore", dg.PreviewWarning)
        with dg.open_pipes_session(
            context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
        ) as session:
            yield session.get_bootstrap_env_vars()


_LONGEST = 128  # characters that W&B takes for a run's name


def _name(context: dg.AssetExecutionContext, job: Path) -> str:
    seed = f".{job.parent.name}" if job.parent.name.startswith("seed-") else ""
    name = ".".join([*context.asset_key.path, context.partition_key])
    return f"{name[: _LONGEST - len(seed)]}{seed}"


def _id(job: Path) -> str:
    """The same id when a killed run is resumed: the workspace is named by its inputs' hash."""
    parts = job.parent.parts
    if "work" in parts:  # the store's; a folder above it may have the name too
        parts = parts[len(parts) - parts[::-1].index("work") :]
    return "-".join(parts[-2:])
