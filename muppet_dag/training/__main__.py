"""``python -m muppet_dag.training JOB.json [JOB.json …]``, alone or under torchrun.

Jobs run one after the other; one that is finished is skipped, one that was interrupted goes on
from its last checkpoint. SIGTERM and SIGINT end the run within seconds, with a checkpoint.

Exit codes: 0 all jobs are done; 1 one cannot go on, the message says why; 75 a worker hung (see
watchdog); 143 the run was asked to stop. After the last two the same command goes on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from muppet_dag.errors import Interrupted, MuppetError
from muppet_dag.evaluation.predict import predict
from muppet_dag.model.multitask import load, saved_heads
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.report import dagster_pipes
from muppet_dag.training.trainer import Trainer

#: Exit codes; the last is what a process that SIGTERM ended would show.
DONE, FAILED, STOPPED = 0, 1, 143


def main(paths: list[str]) -> int:
    """Run the jobs; returns the exit code."""
    try:
        jobs = [Job.read(Path(path)) for path in paths]
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"not a job file: {error}", file=sys.stderr, flush=True)
        return FAILED
    patience = max((job.training.timeout_minutes for job in jobs), default=30.0)
    group = Group.start(timedelta(minutes=patience))
    with dagster_pipes(group.rank) as pipes:
        try:
            for job in jobs:
                run(job, group, pipes)
            return DONE
        except MuppetError as error:
            print(f"rank {group.rank}: {error}", file=sys.stderr, flush=True)
            if pipes is not None:
                pipes.log.error(str(error))
            return STOPPED if isinstance(error, Interrupted) else FAILED
        finally:
            group.close()


def run(job: Job, group: Group, pipes: object = None) -> None:
    """Train one job and make the predictions it asks for, skipping what is done."""
    model, predictions = Path(job.output) / "model", Path(job.output) / "predictions.arrow"
    if not model.is_dir():
        trainer = Trainer(job, group, pipes)
        with _stopping(trainer):
            trainer.run()
        if trainer.report:
            trainer.report.done()
    if job.predict and group.rank == 0 and not predictions.is_file():
        _predict(job, model, predictions, group)
    group.barrier()


@contextmanager
def _stopping(trainer: Trainer) -> Iterator[None]:
    """While it trains, SIGTERM and SIGINT make it leave a checkpoint; elsewhere they end the
    process at once, where nothing is lost."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(n, lambda *_: setattr(trainer, "stop", True)) for n in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _predict(job: Job, folder: Path, path: Path, group: Group) -> None:
    """Predict with the saved model, read back from disk: what is scored is what is kept."""
    prediction = job.predict
    model = load(folder, saved_heads(folder)).to(group.device)
    task = next(task for task in job.tasks if task.name == prediction.task)
    predictions = predict(
        model, task, prediction.split, rows=prediction.rows, device=group.device,
        tokenizer=folder, generation=prediction.generation,
    )  # fmt: skip
    scratch = path.with_name(".predictions.arrow")
    predictions.write(scratch)
    scratch.rename(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
