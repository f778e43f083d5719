"""Pictures inside metadata: Dagster shows Markdown images, so a curve is a small inline PNG."""

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The phases of a training step, as ``metrics.jsonl`` names them.
PHASES = ("data", "forward", "backward", "communication", "optimizer", "aside")

#: What a reader could not guess.
SHOWN = {"aside": "validation and checkpoints"}


def inline(png: bytes, text: str) -> str:
    """A PNG as a Markdown image."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"


def curves(metrics: Path) -> str:
    """A run at a glance: loss, validation where there was any, and where the time went."""
    from matplotlib.figure import Figure

    lines = _lines(metrics)
    train = [line for line in lines if "train/loss" in line]
    validated = [line for line in lines if "validation/mean" in line]
    if not train:
        return "no step was logged"
    panels = 2 + bool(validated)
    figure = Figure(figsize=(5 * panels, 3), dpi=80, layout="constrained")
    loss, *middle, time = figure.subplots(1, panels)
    _by_task(loss, train, "train/loss", "loss, 1 is chance")
    loss.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    loss.set_ylim(bottom=0)
    for axis in middle:
        _by_task(axis, validated, "validation/mean", "validation", "validation/")
    _time(time, train)
    return _inline(figure)


def seed_curves(metrics: Mapping[str, Path]) -> str:
    """Several runs that differ by their seed: loss and validation, a line for each."""
    from matplotlib.figure import Figure

    runs = {seed: _lines(path) for seed, path in metrics.items()}
    panels = [("train/loss", "loss, 1 is chance")]
    if any("validation/mean" in line for lines in runs.values() for line in lines):
        panels.append(("validation/mean", "validation"))
    figure = Figure(figsize=(5 * len(panels), 3), dpi=80, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, title) in zip(axes, panels, strict=True):
        for seed, lines in runs.items():
            points = [(line["step"] + 1, line[name]) for line in lines if name in line]
            steps, values = zip(*points, strict=True) if points else ((), ())
            axis.plot(steps, values, marker=".", label=f"seed {seed}")
        axis.legend(fontsize=7, frameon=False)
        _frame(axis, f"{title}, by seed")
    return _inline(figure)


def time_split(metrics: Path) -> dict[str, float]:
    """Share of the run's time by phase, as its log windows measured it; {} if it was not."""
    lines = _lines(metrics)
    sums = {
        name: sum(line.get(f"time/{name}_ms", 0) for line in lines) for name in (*PHASES, "step")
    }
    whole = sums.pop("step")
    return {SHOWN.get(n, n): round(value / whole, 4) for n, value in sums.items()} if whole else {}


def _by_task(axis: Any, lines: list[dict], bold: str, title: str, prefix: str = "") -> None:
    """One number over all tasks in blue, each task's own in grey behind it."""
    prefix = prefix or f"{bold}/"
    totals = {bold, "validation/score"}
    names = sorted({k for line in lines for k in line if k.startswith(prefix)} - totals)
    for name in names:
        points = [(line["step"] + 1, line[name]) for line in lines if name in line]
        axis.plot(*zip(*points, strict=True), color="0.8", linewidth=0.7)
    steps = [line["step"] + 1 for line in lines]
    axis.plot(steps, [line[bold] for line in lines], color="#0072b2", linewidth=2, marker=".")
    _frame(axis, f"{title}: all tasks (blue), {len(names)} lines by task (grey)")


def _time(axis: Any, lines: list[dict]) -> None:
    """Milliseconds of a step by phase, one on top of the other."""
    steps = [line["step"] + 1 for line in lines]
    parts = [[line.get(f"time/{name}_ms", 0) for line in lines] for name in PHASES]
    axis.stackplot(steps, parts, labels=[SHOWN.get(name, name) for name in PHASES])
    axis.set_ylim(top=1.35 * max(map(sum, zip(*parts, strict=True))) or 1)
    axis.legend(loc="upper right", fontsize=7, frameon=False, ncols=2)
    _frame(axis, "ms of a step by phase")


def _frame(axis: Any, title: str) -> None:
    axis.set_xlabel("step")
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def _inline(figure: Any) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return inline(out.getvalue(), "curves")


def _lines(metrics: Path) -> list[dict]:
    return [json.loads(line) for line in Path(metrics).read_text().splitlines()]
