"""Useful tokens a second of training, against what people write on ``transformers.Trainer``.

``python -m benchmarks.training [DATA --model FOLDER] [--profile]``. The same encoder, rows,
precision, number of threads and optimizer for all, one head a task:

- ours: ``muppet_dag.training`` over a natural, heterogeneous mixture;
- trainer_shuffled: ``transformers.Trainer`` on all rows shuffled, batches of 32 padded to the
  longest (``DataCollatorWithPadding``);
- trainer_grouped: the same with ``train_sampling_strategy="group_by_length"``, which gives up the
  random order for batches of like length;
- one_task: batches of 32 rows of one task padded to the longest, tasks in random order, as MT-DNN
  and tasknet train. (tasknet itself installs, but asks the Hub for a metric when it is imported.)

DATA is a folder laid out as the Hub; without it rows are made up whose lengths are drawn like those
of real tasks, for an encoder of MiniLM's shape with random weights. Each contestant runs in a
process of its own, for whole runs through its sorted part and at least ``--seconds``. On a GPU
RoBERTa-base and -large shapes follow, in bfloat16. ``--profile`` shows instead which operations
a step of ours spends its time in.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.process import fresh
from benchmarks.rows import Rows, model_of, real, synthetic
from benchmarks.table import show
from muppet_dag.recipes import MixtureSection, TrainingSection

if TYPE_CHECKING:
    from muppet_dag.mixture.loader import Step
    from muppet_dag.training.trainer import Trainer

SEED = 20210111
#: About as many tokens a step as eight batches of 32 hold, in slots of 4,096 padded tokens.
MIXTURE = MixtureSection(slot_tokens=4096, slot_rows=256, slots_per_step=8, epochs=1)
#: On a GPU slots are larger, so that its kernels are busy.
GPU_MIXTURE = MixtureSection(slot_tokens=16_384, slot_rows=512, slots_per_step=16, epochs=1)
#: Rows of the paper's 46 data sets.
PAPER_ROWS = 4_800_000


def main() -> None:
    """Time the contestants in turn, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a folder laid out as the Hub")
    parser.add_argument("--model", type=Path, help="the encoder's folder; needed with DATA")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows in all")
    parser.add_argument("--seconds", type=float, default=60, help="at least, for each contestant")
    parser.add_argument("--profile", action="store_true", help="of ours, and nothing else")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if args.data:
            rows = real(home, args.data, args.model, total=args.rows)
        else:
            rows = synthetic(home, model_of("minilm", home / "model"), total=args.rows)
        if args.profile:
            return profile(home / "profile", rows)
        cpu = contest(home, rows, args.seconds)
        print(json.dumps({"useful_tokens_per_second": cpu, **on_gpu(home, args.seconds)}))


def contest(home: Path, rows: Rows, seconds: float) -> dict[str, float]:
    """Useful tokens a second by contestant."""
    runs = {
        "ours": (ours, home / "ours", rows, seconds, MIXTURE),
        "trainer_shuffled": (theirs, home / "shuffled", rows, seconds, "random"),
        "trainer_grouped": (theirs, home / "grouped", rows, seconds, "group_by_length"),
        "one_task": (theirs, home / "one_task", rows, seconds, "one_task"),
    }
    speeds = {name: fresh(*run)[0] for name, run in runs.items()}
    show(
        ("", "useful tokens/s", "useful share", "rows", "steps", "seconds", "ours is"),
        [
            (name, f"{s['speed']:,.0f}", f"{s['share']:.1%}", s["rows"], s["steps"],
             f"{s['seconds']:.0f}", f"{speeds['ours']['speed'] / s['speed']:.2f} x")
            for name, s in speeds.items()
        ],
    )  # fmt: skip
    return {name: round(s["speed"], 1) for name, s in speeds.items()}


def on_gpu(home: Path, seconds: float) -> dict[str, dict]:
    """RoBERTa-base and -large shapes in bfloat16, packed; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    speeds = {}
    for name in ("roberta-base", "roberta-large"):
        rows = synthetic(home / name, model_of(name, home / name / "model"), total=200_000)
        speeds[name] = fresh(ours, home / name / "job", rows, seconds, GPU_MIXTURE)[0]
    show(
        (torch.cuda.get_device_name(), "useful tokens/s", "rows/s", "FLOPs utilisation", "epoch h"),
        [
            (name, f"{s['speed']:,.0f}", f"{s['rows'] / s['seconds']:,.0f}",
             f"{s['utilisation']:.1%}", f"{PAPER_ROWS / s['rows'] * s['seconds'] / 3600:.1f}")
            for name, s in speeds.items()
        ],
    )  # fmt: skip
    return {"gpu": speeds}


def theirs(folder: Path, rows: Rows, seconds: float, order: str) -> dict[str, float]:
    """``transformers.Trainer`` over rows in an order."""
    from benchmarks.peers import train

    return train(folder, rows, seconds, order, SEED)


def ours(folder: Path, rows: Rows, seconds: float, mixture: MixtureSection) -> dict[str, float]:
    """The training engine, as a job file has it, over whole steps."""
    from benchmarks.peers import Counter

    trainer, steps = start(folder, rows, mixture)
    counter = Counter(seconds)
    for step in steps:
        trainer.update(step)
        batches = [batch for each in step.passes for _, batch in each.slots]
        computed = sum(b.tokens if trainer.model.packed else b.padded_tokens for b in batches)
        if counter.add(sum(b.tokens for b in batches), computed, sum(len(b.rows) for b in batches)):
            break
    values = trainer.progress.take()
    return {**counter.metrics(), "utilisation": values.get("train/flops_utilisation", float("nan"))}


def profile(folder: Path, rows: Rows) -> None:
    """Print the operations that a step takes most time in."""
    import torch

    trainer, steps = start(folder, rows, MIXTURE)
    with torch.profiler.profile() as profiler:
        trainer.update(next(steps))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(profiler.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=14))


def start(folder: Path, rows: Rows, mixture: MixtureSection) -> tuple[Trainer, Iterator[Step]]:
    """A trainer after its first step, which allocates, and the steps that follow."""
    from muppet_dag.mixture import index
    from muppet_dag.training.group import Group
    from muppet_dag.training.job import Job
    from muppet_dag.training.trainer import Trainer

    folder.mkdir(parents=True)
    sizes = {task.name: index.Sizes.read(Path(task.tokens)) for task in rows.tasks}
    index.build(sizes, mixture, SEED, folder)
    job = Job(
        name="benchmark", init=str(rows.model), init_hash="", mixture=str(folder), mixture_hash="",
        tasks=rows.tasks, training=TrainingSection(), seed=SEED, output=str(folder),
    )  # fmt: skip
    trainer = Trainer(job, Group.start())
    steps = iter(trainer.loader)
    trainer.update(next(steps))
    trainer.progress.take()
    return trainer, steps


if __name__ == "__main__":
    main()
