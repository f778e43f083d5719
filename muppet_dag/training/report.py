"""What a run says while it goes: a metrics file, the terminal, and Dagster Pipes if it is there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from muppet_dag.files import sync, write_atomic

METRICS, FACTS = "metrics.jsonl", "run.json"
#: Beside the job file: why a run ended that did not crash, ``{"stopped": true, "why": …}``.
ENDED = "ended.json"


class Report:
    """Writes one JSON line per report to ``metrics.jsonl``: ``{"step": 10, "train/loss": 1.02}``.

    Only rank 0 has one. After a resume the file is cut back to the checkpoint's step, so each step
    is reported once.
    """

    def __init__(self, folder: Path, name: str, total: int = 0, pipes: Any = None) -> None:
        self.folder, self.name, self.total, self.pipes = Path(folder), name, total, pipes
        self.path = self.folder / METRICS

    def resume(self, step: int) -> None:
        """Forget what was reported at or after ``step``; those steps are taken again."""
        lines = self.path.read_bytes().split(b"\n") if self.path.is_file() else []
        kept = [line.decode() for line in lines if _step(line) < step]
        write_atomic(self.path, "".join(f"{line}\n" for line in kept))
        (self.folder / FACTS).unlink(missing_ok=True)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line and show the gist of it."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        self.info(f"step {step + 1}/{self.total} {_gist(values, self.total - step - 1)}")

    def info(self, text: str) -> None:
        """A line in Dagster's log, or on the terminal of a run by hand."""
        with suppress(OSError):  # who listened is gone; the checkpoint is still to be written
            if self.pipes is not None:
                self.pipes.log.info(f"[{self.name}] {text}")
            else:
                print(f"[{self.name}] {text}", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """As ``info``, but marked."""
        if self.pipes is None:
            self.info(f"warning: {text}")
            return
        with suppress(OSError):
            self.pipes.log.warning(f"[{self.name}] {text}")

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Write what is known at the end to ``run.json``, and make the metrics last."""
        if self.path.exists():
            sync(self.path)
        write_atomic(self.folder / FACTS, json.dumps(facts, indent=1))

    def done(self) -> None:
        """Hand the run's facts to Dagster, if it listens."""
        if self.pipes is not None:
            facts = json.loads((self.folder / FACTS).read_text())
            self.pipes.report_custom_message({"job": self.name, **facts})


@contextmanager
def dagster_pipes(rank: int) -> Iterator[Any]:
    """The Pipes context on rank 0 of a run that Dagster started, else None.

    Every child of torchrun inherits the Pipes environment; only one may report.
    """
    if rank != 0 or "DAGSTER_PIPES_CONTEXT" not in os.environ:
        yield None
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:
        yield pipes


def _gist(values: Mapping[str, float], left: int) -> str:
    """One tidy line: the numbers over all tasks, short; how long the rest will take."""
    shown = [
        f"{name.split('/')[1].replace('_', ' ')} {_short(value)}"
        for name, value in values.items()
        if name.count("/") == 1 and not name.startswith(("time/", "memory/"))
    ]
    if (each := values.get("time/step_ms")) and left:
        shown.append(f"{timedelta(seconds=round(left * each / 1000))} left")
    return ", ".join(shown)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _step(line: bytes) -> float:
    """The step of a line. One that is none counts as never reported: a half-written last line,
    and what a power cut may leave of others (zeros, bytes that are not UTF-8)."""
    try:
        return float(json.loads(line.decode())["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
