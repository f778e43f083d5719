"""The leaderboard: what pre-finetuning gained over fine-tuning the base model, task by task.

Scores are one value per (recipe, initialisation, task, metric, seed), fractions as `metrics.score`
gives them. The gain is the difference of the means over seeds; the spread is the sample standard
deviation over seeds (null with one seed). What people read is times 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from muppet_dag.errors import BadConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console

BASE, PREFINETUNED = "base", "pre-finetuned"
INITIALISATIONS = (BASE, PREFINETUNED)

SCORES = pa.schema(
    [
        ("recipe", pa.string()),
        ("initialisation", pa.string()),
        ("task", pa.string()),
        ("family", pa.string()),
        ("metric", pa.string()),
        ("seed", pa.int64()),
        ("value", pa.float64()),
        ("rows", pa.int64()),
        ("is_primary", pa.bool_()),
    ]
)

#: ``seeds`` is the number that the gain rests on: that of the side with fewer. Values are ordered
#: inside the aggregates, so that equal scores in any order give equal bits.
_SUMMARY = """
with sides as (
    select recipe, family, task, metric, is_primary, max(rows) as rows,
        avg(value order by seed) filter (initialisation = 'base') as base_mean,
        stddev_samp(value order by seed) filter (initialisation = 'base') as base_std,
        avg(value order by seed) filter (initialisation = 'pre-finetuned') as prefinetuned_mean,
        stddev_samp(value order by seed) filter (initialisation = 'pre-finetuned')
            as prefinetuned_std,
        nullif(count(*) filter (initialisation = 'base'), 0) as base_seeds,
        nullif(count(*) filter (initialisation = 'pre-finetuned'), 0) as prefinetuned_seeds
    from scores group by all
)
select recipe, task, metric, base_mean, base_std, prefinetuned_mean, prefinetuned_std,
    prefinetuned_mean - base_mean as gain, least(base_seeds, prefinetuned_seeds) as seeds,
    rows, family, is_primary
from sides order by recipe, family, task, is_primary desc, metric
"""


@dataclass(frozen=True)
class Score:
    """One metric of one fine-tuned model on one task: ``value`` is a fraction, over ``rows``."""

    recipe: str
    initialisation: str
    task: str
    family: str
    metric: str
    seed: int
    value: float
    rows: int


def scores(records: Iterable[Score]) -> pa.Table:
    """The records as a table of schema `SCORES`, in their order.

    A task's first metric is its primary one. Raises BadConfig for an unknown initialisation, a
    value that is not finite, and two values in one place.
    """
    primary: dict[str, str] = {}
    rows: dict[tuple, dict[str, Any]] = {}
    for record in records:
        place = (record.recipe, record.initialisation, record.task, record.metric, record.seed)
        if record.initialisation not in INITIALISATIONS:
            raise BadConfig(f"score {place}: initialisation must be one of {INITIALISATIONS}")
        if place in rows or not math.isfinite(record.value):
            raise BadConfig(f"score {place}: expected one finite value, found {record.value} too")
        first = primary.setdefault(record.task, record.metric)
        rows[place] = {**vars(record), "is_primary": record.metric == first}
    return pa.Table.from_pylist(list(rows.values()), schema=SCORES)


def summarise(scores: pa.Table) -> pa.Table:
    """One row per recipe, task and metric: means and spreads of both sides, their difference.

    Columns: recipe, task, metric, base_mean, base_std, prefinetuned_mean, prefinetuned_std, gain,
    seeds, rows, family, is_primary. A task with one side only has nulls on the other.
    """
    import duckdb

    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("scores", scores)
        return connection.sql(_SUMMARY).to_arrow_table()


def write(records: Iterable[Score], directory: str | Path) -> pa.Table:
    """Write scores.parquet and leaderboard as .parquet, .duckdb and .png; return the summary."""
    import pyarrow.parquet as pq

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    table = scores(records)
    summary = summarise(table)
    pq.write_table(table, folder / "scores.parquet")
    pq.write_table(summary, folder / "leaderboard.parquet")
    _write_duckdb({"scores": table, "leaderboard": summary}, folder / "leaderboard.duckdb")
    draw(summary, folder / "leaderboard.png")
    return summary


def _write_duckdb(tables: dict[str, pa.Table], path: Path) -> None:
    import duckdb

    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        for name, table in tables.items():
            connection.register("given", table)
            connection.execute(f"create table {name} as from given")


HEADINGS = ("recipe", "task", "metric", "base", "pre-finetuned", "gain", "seeds", "rows")


def markdown(summary: pa.Table) -> str:
    """The summary as a Markdown table, values times 100; a task's primary metric is bold."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---|---|---|" + "---:|" * 5]
    for row in summary.to_pylist():
        cells = _cells(row)
        cells[2] = f"**{cells[2]}**" if row["is_primary"] else cells[2]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def print_table(summary: pa.Table, console: Console | None = None) -> None:
    """Show the summary in the terminal, a table per recipe: values times 100, losses red."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, rows = console or Console(), summary.to_pylist()
    for recipe in dict.fromkeys(row["recipe"] for row in rows):
        title = Text(recipe, "bold")
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for i, heading in enumerate(HEADINGS[1:]):
            table.add_column(heading, justify="left" if i < 2 else "right", no_wrap=i > 1)
        for row in (row for row in rows if row["recipe"] == recipe):
            cells = [Text(cell, "" if row["is_primary"] else "dim") for cell in _cells(row)[1:]]
            cells[4].stylize("green" if (row["gain"] or 0) > 0 else "red" if row["gain"] else "")
            table.add_row(*cells)
        console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["recipe"],
        row["task"],
        row["metric"],
        _value(row["base_mean"], row["base_std"]),
        _value(row["prefinetuned_mean"], row["prefinetuned_std"]),
        _gain(row["gain"]),
        str(row["seeds"]),
        f"{row['rows']:,}",
    ]


def _value(mean: float | None, spread: float | None = None) -> str:
    if mean is None:
        return "–"
    shown = f"{100 * mean:.2f}".replace("-", "−")
    return shown + ("" if spread is None else f" ± {100 * spread:.2f}")


def _gain(gain: float | None) -> str:
    return "–" if gain is None else f"{100 * gain:+.2f}".replace("-", "−")


# The picture: one panel per recipe, one row per task, its primary metric.

_COLUMNS = 3
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
    columns = min(max(len(panels), 1), _COLUMNS)
    lines = max(math.ceil(len(panels) / columns), 1)
    tallest = max(map(_height, panels.values()), default=1)
    with matplotlib.rc_context(_STYLE):
        size = (6.4 * columns + 0.4, lines * (0.29 * tallest + 1.2) + 0.75)
        figure = Figure(figsize=size, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)
        axes = list(figure.subplots(lines, columns, squeeze=False).flat)
        _heading(figure)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        limits = _limits([row for rows in panels.values() for row in rows])
        for axis, (recipe, rows) in zip(axes, panels.items(), strict=False):
            _panel(axis, recipe, rows, limits, tallest)
        figure.savefig(path, dpi=150, format="png", metadata={"Software": None})


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
    axis: Axes,
    recipe: str,
    rows: Sequence[dict[str, Any]],
    limits: tuple[float, float],
    tallest: float,
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
    axis.set(xlim=limits, ylim=(tallest - 0.3, -0.6))
    axis.set_title(recipe, loc="left", fontweight="bold", fontsize=10.5)
    gains = [row["gain"] for row in rows if row["gain"] is not None]
    if gains:
        _right(axis, 0, _gain(math.fsum(gains) / len(gains)), "mean gain", _INK, "bold")
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
    _right(axis, y, _gain(row["gain"]), row["metric"], colour)


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
