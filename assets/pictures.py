"""Pictures inside metadata: Dagster shows Markdown images, so a curve is a small inline SVG."""

import base64
import io
import json
from pathlib import Path


def inline(png: bytes, text: str) -> str:
    """A PNG as a Markdown image."""
    return f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})"


def curves(metrics: Path) -> str:
    """Loss (all tasks together, and each one thinly) and learning rate over the steps."""
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in Path(metrics).read_text().splitlines()]
    train = [line for line in lines if "train/loss" in line]
    if not train:
        return "no step was logged"
    figure = Figure(figsize=(7, 3), dpi=110, layout="constrained")
    axis = figure.subplots()
    names = sorted({k for line in train for k in line if k.startswith("train/loss/")})
    for name in names:
        points = [(line["step"] + 1, line[name]) for line in train if name in line]
        axis.plot(*zip(*points, strict=True), color="0.8", linewidth=0.7)
    steps = [line["step"] + 1 for line in train]
    axis.plot(steps, [line["train/loss"] for line in train], color="#0072b2", linewidth=2)
    axis.axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    axis.set(
        xlabel="step",
        ylabel="scaled loss",
        title=f"loss: all tasks (blue), each of {len(names)} (grey); 1 is chance",
    )
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return inline(out.getvalue(), "loss curve")
