"""``python -m muppet_dag.training JOB.json [JOB.json …]``, alone or under torchrun.

Jobs run one after the other; one that is finished is skipped, one that was interrupted goes on
from its last checkpoint. SIGTERM and SIGINT end the run within seconds, with a checkpoint.

Exit codes: 0 all jobs are done; 1 one cannot go on, the message says why; 75 a worker hung (see
watchdog); 143 the run was asked to stop, or what started it is gone (see parent). After the last
two the same command goes on. The message lies in ``ended.json`` beside the job file, too.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from muppet_dag import disk
from muppet_dag.errors import Interrupted, MuppetError
from muppet_dag.evaluation.predict import predict
from muppet_dag.files import write_atomic
from muppet_dag.model.multitask import load, saved_heads
from muppet_dag.training import inputs, parent
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job
from muppet_dag.training.parent import STOPPED
from muppet_dag.training.report import ENDED, Report, dagster_pipes
from muppet_dag.training.result import Result
from muppet_dag.training.trainer import Trainer
from muppet_dag.training.turn import turn

DONE, FAILED = 0, 1


def main(paths: list[str]) -> int:
    """Run the jobs; returns the exit code."""
    parent.watch()
    jobs: dict[Path, Job] = {}
    for path in map(Path, paths):
        try:
            jobs[path] = Job.read(path)
        except MuppetError as error:
            return _ended(path, error)
    patience = max((job.training.timeout_minutes for job in jobs.values()), default=30.0)
    group = Group.start(timedelta(minutes=patience))
    with dagster_pipes(group.rank) as pipes:
        try:
            for path, job in jobs.items():  # noqa: B007 (the one that ends it is named)
                with disk.plain_errors(Path(job.output), f"training {job.name}"):
                    run(job, group, pipes)
            return DONE
        except MuppetError as error:
            if pipes is not None:
                pipes.log.error(str(error))
            return _ended(path, error, group.rank)
        finally:
            group.close()


def run(job: Job, group: Group, pipes: object = None) -> None:
    """Train one job and make the predictions it asks for, skipping what is done.

    Waits while another process trains in the same folder.
    """
    output = Path(job.output)
    result, report = Result(output, job.fingerprint), Report(output, job.name, pipes=pipes)
    with turn(output, group, report.warn):
        if not group.any(group.rank == 0 and result.has_model()):
            inputs.check(job, group)
            trainer = Trainer(job, group, pipes)
            with _stopping(trainer):
                trainer.run()
            if trainer.report:
                trainer.report.done()
        if job.predict and group.rank == 0 and not result.has_predictions():
            _predict(job, result, group)
        group.barrier()


def _ended(path: Path, error: MuppetError, rank: int = 0) -> int:
    """Say why a run ends, here and beside its job file, where the launcher looks for it."""
    stopped = isinstance(error, Interrupted)
    with suppress(OSError):  # the reason may be a full disk
        print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
        write_atomic(path.with_name(ENDED), json.dumps({"stopped": stopped, "why": str(error)}))
    return STOPPED if stopped else FAILED


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


def _predict(job: Job, result: Result, group: Group) -> None:
    """Predict with the saved model, read back from disk: what is scored is what is kept."""
    prediction, folder = job.predict, result.model
    model = load(folder, saved_heads(folder)).to(group.device)
    task = next(task for task in job.tasks if task.name == prediction.task)
    predictions = predict(
        model, task, prediction.split, rows=prediction.rows, device=group.device,
        tokenizer=folder, generation=prediction.generation,
    )  # fmt: skip
    scratch = result.predictions.with_name(".predictions.arrow")
    predictions.write(scratch)
    result.keep_predictions(scratch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
