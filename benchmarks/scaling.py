"""One worker or two on a CPU, one thread each: useful tokens a second, and time to communicate.

``python -m benchmarks.scaling [--workers 2] [--steps 12]``. The same job file is started by
torchrun with one worker and with several, on made-up rows of natural lengths for an encoder of
MiniLM's shape. A step takes the same slots either way; the gradients of all weights in float32
are summed over gloo once a step, after its last slot. Where workers wait for the slowest, that
counts as communication. ``--sharding fsdp`` spreads weights and optimizer state over the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.process import fresh
from benchmarks.rows import Rows, model_of, synthetic
from benchmarks.table import show
from muppet_dag.recipes import MixtureSection, TrainingSection

SEED = 20210111
PHASES = ("data", "forward", "backward", "communication", "optimizer")


def main() -> None:
    """Run both, print a table and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="steps that are timed")
    parser.add_argument("--slots", type=int, default=2, help="slots of 4,096 tokens in a step")
    parser.add_argument("--sharding", choices=("none", "fsdp"), default="none")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            workers: fresh(run, Path(folder) / str(workers), workers, args)[0]
            for workers in (1, args.workers)
        }
    one, many = runs.values()
    show(
        ("workers", "useful tokens/s", *(f"{phase} ms" for phase in PHASES), "communication"),
        [
            (workers, f"{m['tokens_per_second']:,.0f}", *(f"{m[phase]:,.0f}" for phase in PHASES),
             f"{m['communication'] / m['step']:.1%}")
            for workers, m in runs.items()
        ],
    )  # fmt: skip
    speedup = many["tokens_per_second"] / one["tokens_per_second"]
    print(json.dumps({
        "tokens_per_second": {str(n): round(m["tokens_per_second"], 1) for n, m in runs.items()},
        "speedup": round(speedup, 3), "efficiency": round(speedup / args.workers, 3),
        "communication_share": round(many["communication"] / many["step"], 4),
    }))  # fmt: skip


def run(folder: Path, workers: int, args: argparse.Namespace) -> dict[str, float]:
    """Train with so many workers; means over the timed steps, times in milliseconds."""
    from muppet_dag.training.launch import command

    # Two parts of the run: the first one allocates and is not counted.
    rows = synthetic(
        folder, model_of("minilm", folder / "base"), total=200 * args.steps * args.slots
    )
    job = write_job(folder, rows, args)
    # One thread a worker, so that both runs have as much of the machine for each of them.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command([job], workers), env=environment, check=True, capture_output=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = [line for line in lines if "time/step_ms" in line][1:]
    values: dict[str, Any] = {
        name: fmean(line[f"time/{name}_ms"] for line in timed) for name in (*PHASES, "step")
    }
    return values | {"tokens_per_second": fmean(line["train/tokens_per_second"] for line in timed)}


def write_job(folder: Path, rows: Rows, args: argparse.Namespace) -> Path:
    """A job file over a mixture of the rows: two steps to warm up, then those that are timed."""
    from muppet_dag.mixture import index
    from muppet_dag.training.job import Job

    mixture = MixtureSection(
        slot_tokens=4096, slot_rows=256, slots_per_step=args.slots, steps=2 + args.steps
    )
    sizes = {task.name: index.Sizes.read(Path(task.tokens)) for task in rows.tasks}
    index.build(sizes, mixture, SEED, folder)
    training = TrainingSection(log_every=2, sharding=args.sharding, validate_every=10**9)
    job = Job(
        name="scaling", init=str(rows.model), init_hash="", mixture=str(folder), mixture_hash="",
        tasks=rows.tasks, training=training, seed=SEED, output=str(folder),
    )  # fmt: skip
    job.write(folder / "job.json")
    return folder / "job.json"


if __name__ == "__main__":
    main()
