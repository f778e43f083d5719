"""The leaderboard: what pre-finetuning gained over fine-tuning the base model, task by task.

Scores are one value per (recipe, initialisation, task, metric, seed), fractions as `metrics.score`
gives them. The gain is the difference of the means over seeds; the spread is the sample standard
deviation over seeds (null with one seed). What people read is times 100.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from muppet_dag import text
from muppet_dag.errors import BadConfig
from muppet_dag.evaluation.picture import draw, gain

if TYPE_CHECKING:
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
            connection.register("arrow", table)
            connection.execute(f"create table {name} as from arrow")


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
    from rich.table import Table
    from rich.text import Text

    console, rows = console or text.console(), summary.to_pylist()
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
        gain(row["gain"]),
        str(row["seeds"]),
        f"{row['rows']:,}",
    ]


def _value(mean: float | None, spread: float | None = None) -> str:
    if mean is None:
        return "–"
    shown = f"{100 * mean:.2f}".replace("-", "−")
    return shown + ("" if spread is None else f" ± {100 * spread:.2f}")
