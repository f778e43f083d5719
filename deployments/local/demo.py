"""``make demo``: the whole DAG through Dagster, from datasets to the leaderboard.

The same assets that the UI materializes, run one after the other in this process, with a progress
display. A dataset that fails is left out and named at the end; the rest goes on.
"""

import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from assets.partitions import Plan
from deployments.local.home import prepare
from deployments.local.location import build
from deployments.local.runs import end_dead_runs
from deployments.local.settings import Settings
from muppet_dag import disk, pipeline, recipes, text
from muppet_dag.catalogue import PROBLEMS, TASKS
from muppet_dag.errors import MuppetError
from muppet_dag.store import Store

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Runner:
    """Runs assets of the code location in this process and shows how far they are."""

    defs: dg.Definitions
    instance: dg.DagsterInstance
    progress: Progress
    failures: dict[str, str] = field(default_factory=dict)

    def run(
        self,
        title: str,
        keys: Sequence[dg.AssetKey],
        partition: str | None = None,
        ops: dict | None = None,
    ) -> bool:
        """Materialize assets in one run; failures are noted by asset. True if all went well."""
        job = self.defs.resolve_implicit_global_asset_job_def()
        run_id = str(uuid.uuid4())
        with self._shown(title, run_id, len(keys)):
            result = job.execute_in_process(
                asset_selection=list(keys), partition_key=partition, instance=self.instance,
                run_config={**_QUIET, "ops": ops or {}}, run_id=run_id, raise_on_error=False,
                tags={"muppet/demo": title},
            )  # fmt: skip
        self._note(result, partition)
        return result.success

    def _note(self, result: dg.ExecuteInProcessResult, partition: str | None = None) -> None:
        for event in result.all_events:
            if event.is_step_failure:
                if _interrupted(event.step_failure_data.error):
                    sys.exit("stopped; the same command goes on from here")
                self.failures[f"{event.step_key} {partition or ''}".strip()] = _reason(event)

    def observe(self) -> None:
        """Record the version of every dataset repository."""
        job = self.defs.resolve_job_def("observe")
        result = job.execute_in_process(
            instance=self.instance, run_config=_QUIET, raise_on_error=False
        )
        self._note(result)

    @contextmanager
    def _shown(self, title: str, run_id: str, steps: int) -> Iterator[None]:
        """A progress bar fed by the run's events, read from another thread."""
        bar, done = self.progress.add_task(title, total=steps, note=""), threading.Event()
        watcher = threading.Thread(target=self._watch, args=(run_id, bar, done), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            self.progress.update(bar, completed=steps, note="")
            if not self.progress.console.is_terminal:  # no bars in a log file: a line each
                seconds = self.progress.tasks[bar].elapsed
                self.progress.console.print(f"{title:28} {seconds:5.0f} s")

    def _watch(self, run_id: str, bar: int, done: threading.Event) -> None:
        cursor = None
        while not done.wait(0.5):
            if not self.instance.has_run(run_id):
                continue
            page = self.instance.get_records_for_run(run_id, cursor=cursor)
            cursor = page.cursor
            for record in page.records:
                entry = record.event_log_entry
                event = entry.dagster_event
                if event is None:
                    self.progress.update(bar, note=entry.user_message[:60])
                elif event.is_step_success or event.is_step_failure:
                    self.progress.advance(bar)


def main(
    steps: int = typer.Option(0, help="Steps of pre-finetuning; 0: as the recipes say"),
) -> None:
    """Materialize the whole DAG with the demo recipes."""
    started, console = time.perf_counter(), text.console()
    # As Ctrl-C: training leaves its state.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = Settings.read()
        with disk.plain_errors(settings.home, "running the DAG"):
            failures = run(settings, steps or None, console)
    except MuppetError as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    closing(console, settings, failures, time.perf_counter() - started)


def run(settings: Settings, steps: int | None, console: Console) -> dict[str, str]:
    """Materialize all that can be; returns what failed, by asset, and why."""
    pipeline.open_source(settings.source, Store(settings.home))
    prepare(settings)
    defs, plan = build(settings), demo_plan(settings)
    columns = (
        TextColumn("{task.description:28}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    shown = Progress(*columns, console=console, disable=not console.is_terminal)
    with dg.DagsterInstance.get() as instance, shown as progress:
        end_dead_runs(instance)
        runner = Runner(defs, instance, progress)
        runner.failures |= {f"shards__{name}": problem for name, problem in PROBLEMS.items()}
        materialize(runner, plan, steps)
    return runner.failures


def demo_plan(settings: Settings) -> Plan:
    """The two demo recipes; with a real encoder "small" takes the place of the tiny one's."""
    folders = [settings.recipes] if settings.recipes else []
    names = ("small" if settings.chose_model else "demo", "demo-bart")
    return Plan({name: recipes.get(name, *folders) for name in names}, settings.model)


def materialize(runner: Runner, plan: Plan, steps: int | None) -> None:
    """The way through the DAG, top to bottom; each floor takes what the one above has made."""
    runner.observe()
    runner.run("shards", [dg.AssetKey(["shards", name]) for name in TASKS])
    sharded = [name for name in TASKS if f"shards__{name}" not in runner.failures]
    runner.run("overlap", [dg.AssetKey(["overlap"])])
    for recipe in plan.recipes.values():
        runner.run(f"base model of {recipe.name}", [dg.AssetKey(["base_model"])], plan.base(recipe))
        keys = [dg.AssetKey(["tokens", name]) for name in plan.tasks(recipe) if name in sharded]
        runner.run(f"tokens of {recipe.name}", keys, plan.tokenizer(recipe))
    for recipe in plan.recipes.values():
        ops = {"mixture": {"config": {"steps": steps}}} if steps else None
        keys = [dg.AssetKey(["mixture"]), dg.AssetKey(["prefinetuned"])]
        runner.run(f"pre-finetuning {recipe.name}", keys, recipe.name, ops)
    for task, arms in plan.downstream.items():
        keys = [dg.AssetKey([floor, task]) for floor in ("finetuned", "evaluation")]
        for arm in arms:
            runner.run(f"{task} from {arm.title}", keys, arm.name)
    runner.run("leaderboard", [dg.AssetKey(["leaderboard"])])


def closing(console: Console, settings: Settings, failures: dict[str, str], seconds: float) -> None:
    """Print the leaderboard, what failed, and where things lie."""
    import pyarrow.parquet as pq

    from muppet_dag.evaluation.leaderboard import print_table

    board = Store(settings.home).current("leaderboard/all")
    if board:
        print_table(pq.read_table(board.path / "leaderboard.parquet"), console)
    for step, reason in failures.items():
        console.print(f"[red]left out[/] {step}: {escape(reason)}", soft_wrap=True, highlight=False)
    console.print(
        f"\n{len(TASKS)} tasks in the catalogue; {seconds:.0f} s in all. Where things lie:"
    )
    places = {
        "artefacts": settings.home,
        "leaderboard": board.path if board else "not made",
        "models": settings.home / "prefinetuned",
        "W&B runs": settings.home / "wandb",
    }
    for name, place in places.items():
        console.print(f"  {name:12} {place}", soft_wrap=True, highlight=False)
    console.print("  the DAG      make ui (with the same settings)")
    others = [step for step in failures if not step.startswith(("hub__", "shards__", "tokens__"))]
    if others or not board:
        sys.exit(1)


def _interrupted(error: Any) -> bool:
    """Whether a step ended by Ctrl-C: its own, or that of the training it waited for."""
    while error is not None:
        if "Interrupt" in (error.cls_name or ""):
            return True
        error = error.cause
    return False


def _reason(event: dg.DagsterEvent) -> str:
    error = event.step_failure_data.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else event.message


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
