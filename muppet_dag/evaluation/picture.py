"""The leaderboard's picture: a panel per recipe, stacked, a row per task, its primary metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Inches and dots an inch: 1,020 pixels, since a page clips what is wider than 1,200.
_WIDTH, _DPI = 6.8, 150
_BLUE, _ORANGE, _GREY, _INK = "#0072B2", "#D55E00", "#8A8F98", "#22262B"  # Okabe and Ito
_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same bytes on every machine
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw(summary: pa.Table, path: str | Path) -> None:
    """Draw a dot plot of the primary metrics, times 100, as PNG; equal tables give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[str, list[dict[str, Any]]] = {}
    for row in summary.to_pylist():
        if row["is_primary"]:
            panels.setdefault(row["recipe"], []).append(row)
    heights = [_height(rows) for rows in panels.values()] or [1]
    with matplotlib.rc_context(_STYLE):
        size = (_WIDTH, sum(0.29 * height + 0.75 for height in heights) + 1.2)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        axes = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
        _heading(figure)
        if not panels:
            axes[0].set_axis_off()
        limits = _limits([row for rows in panels.values() for row in rows])
        for axis, (recipe, rows) in zip(axes, panels.items(), strict=False):
            _panel(axis, recipe, rows, limits)
        figure.savefig(path, dpi=_DPI, format="png", metadata={"Software": None})


def gain(value: float | None) -> str:
    """A gain as people read it: times 100, signed; a dash where there is none."""
    return "–" if value is None else f"{100 * value:+.2f}".replace("-", "−")


def _heading(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    dot = {"linestyle": "", "markersize": 6, "markeredgewidth": 1.4}
    handles = [
        Line2D([], [], marker="o", mfc="white", mec=_GREY, label="base model, fine-tuned", **dot),
        Line2D([], [], marker="o", mfc=_BLUE, mec=_BLUE, label="pre-finetuned first", **dot),
        Line2D([], [], color=_GREY, marker="|", ms=9, mew=1.2, label="± 1 s.d. over seeds"),
    ]
    legend = figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=3,
        title="Gain from pre-finetuning, by task (primary metric × 100)",
        title_fontproperties={"weight": "bold", "size": 12},
        alignment="left",
        frameon=False,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    legend.get_title().set_color(_INK)


def _height(rows: Sequence[dict[str, Any]]) -> float:
    """Rows that a panel needs: its tasks, and a heading for each family."""
    return len(rows) + 1.2 * len({row["family"] for row in rows})


def _limits(rows: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """One horizontal axis for all panels: every mean with its spread, and some air."""
    ends = [
        100 * (row[f"{side}_mean"] + sign * (row[f"{side}_std"] or 0))
        for row in rows
        for side in ("base", "prefinetuned")
        for sign in (-1, 1)
        if row[f"{side}_mean"] is not None
    ]
    low, high = min(ends, default=0), max(ends, default=100)
    air = max(0.05 * (high - low), 2)
    return low - air, high + air


def _panel(
    axis: Axes, recipe: str, rows: Sequence[dict[str, Any]], limits: tuple[float, float]
) -> None:
    y, places, family = 0.0, [], None
    for row in rows:
        if row["family"] != family:
            family, y = row["family"], y + 0.2 * bool(places)
            place = {"transform": axis.get_yaxis_transform(), "va": "center_baseline"}
            axis.text(-0.013, y, family, ha="right", color=_GREY, fontsize=8.5, **place)
            y += 1
        _row(axis, y, row)
        places.append(y)
        y += 1
    axis.set_yticks(places, [row["task"] for row in rows])
    axis.set(xlim=limits, ylim=(_height(rows) - 0.3, -0.6))
    axis.set_title(recipe, loc="left", fontweight="bold", fontsize=10.5)
    gains = [row["gain"] for row in rows if row["gain"] is not None]
    if gains:
        over = f"mean, {len(gains)} task{'s' * (len(gains) > 1)}"
        _right(axis, 0, gain(math.fsum(gains) / len(gains)), over, _INK, "bold")
    _plain(axis, negative=limits[0] < 0)


def _row(axis: Axes, y: float, row: dict[str, Any]) -> None:
    sides = (("base", -0.16, _GREY, "white"), ("prefinetuned", 0.16, _BLUE, _BLUE))
    for side, lower, edge, fill in sides:
        mean, spread = row[f"{side}_mean"], row[f"{side}_std"]
        if mean is None:
            continue
        # The caps are as tall as the dot: a spread smaller than the dot shows as well.
        bar = {"fmt": "none", "ecolor": edge, "elinewidth": 1.3, "capsize": 3, "zorder": 2}
        if spread:
            axis.errorbar(100 * mean, y + lower, xerr=100 * spread, **bar)
        axis.plot(100 * mean, y + lower, "o", mfc=fill, mec=edge, ms=5, mew=1.3, zorder=3)
    colour = _GREY if not row["gain"] else _BLUE if row["gain"] > 0 else _ORANGE
    _right(axis, y, gain(row["gain"]), row["metric"], colour)


def _right(axis: Axes, y: float, gain: str, word: str, colour: str, weight: str = "normal") -> None:
    """Write a gain and a word of explanation in the two columns right of the panel."""
    place = {"transform": axis.get_yaxis_transform(), "va": "center_baseline"}
    axis.text(1.145, y, gain, ha="right", color=colour, fontweight=weight, **place)
    axis.text(1.165, y, word, ha="left", color=_GREY, fontsize=8, **place)


def _plain(axis: Axes, *, negative: bool) -> None:
    """Take away what carries no data: the box, the tick marks, dark grid lines."""
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.tick_params(axis="x", labelcolor=_GREY, labelsize=8.5)
    axis.grid(axis="x", color="#E6E8EB", linewidth=0.8)
    axis.grid(axis="y", color="#F3F4F6", linewidth=0.8)
    axis.set_axisbelow(True)
    if negative:
        axis.axvline(0, color="#B5BAC1", linewidth=1, zorder=1)
