"""The leaderboard's numbers by hand; its files, tables and picture."""

import io
import math
import struct

import duckdb
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from muppet_dag.errors import BadConfig
from muppet_dag.evaluation.leaderboard import (
    Score,
    draw,
    markdown,
    print_table,
    scores,
    summarise,
    write,
)

B, P = "base", "pre-finetuned"


def some(task, metric, base, prefinetuned, *, recipe="muppet", family="classification", rows=277):
    """The records of one task and metric: a value per seed, from seed 1 on, for either side."""
    return [
        Score(recipe, side, task, family, metric, seed, value, rows)
        for side, values in ((B, base), (P, prefinetuned))
        for seed, value in enumerate(values, 1)
    ]


RECORDS = [
    *some("cola", "matthews", [-0.10, 0.00], [0.10, 0.30], rows=1043),
    *some("cola", "accuracy", [0.6, 0.6], [0.7, 0.7], rows=1043),
    *some("boolq", "accuracy", [0.80], [0.75], rows=3270),
    *some("squad", "f1", [], [0.5, 0.7, 0.6], family="mrc"),
]


def rows(records):
    summary = summarise(scores(records)).to_pylist()
    return {(row["recipe"], row["task"], row["metric"]): row for row in summary}


def test_means_sample_spreads_and_gains():
    row = rows(RECORDS)["muppet", "cola", "matthews"]
    assert row["base_mean"] == pytest.approx(-0.05)
    assert row["base_std"] == pytest.approx(0.1 / math.sqrt(2))  # divided by n - 1
    assert row["prefinetuned_mean"] == pytest.approx(0.2)
    assert row["prefinetuned_std"] == pytest.approx(0.2 / math.sqrt(2))
    assert row["gain"] == pytest.approx(0.25)
    assert (row["seeds"], row["rows"], row["is_primary"]) == (2, 1043, True)


def test_one_seed_has_no_spread():
    row = rows(RECORDS)["muppet", "boolq", "accuracy"]
    assert (row["base_std"], row["prefinetuned_std"], row["seeds"]) == (None, None, 1)
    assert row["gain"] == pytest.approx(-0.05)


def test_a_missing_side_stays_null():
    row = rows(RECORDS)["muppet", "squad", "f1"]
    assert (row["base_mean"], row["base_std"], row["gain"]) == (None, None, None)
    assert row["prefinetuned_mean"] == pytest.approx(0.6) and row["seeds"] == 3


def test_seeds_are_those_of_the_side_with_fewer():
    row = rows(some("boolq", "accuracy", [0.1], [0.2, 0.3, 0.4]))["muppet", "boolq", "accuracy"]
    assert row["seeds"] == 1


def test_rows_are_ordered_with_the_primary_metric_first():
    summary = summarise(scores([*RECORDS, *some("rte", "accuracy", [0.5], [0.6], recipe="a")]))
    assert [(r["recipe"], r["task"], r["metric"]) for r in summary.to_pylist()] == [
        ("a", "rte", "accuracy"),
        ("muppet", "boolq", "accuracy"),
        ("muppet", "cola", "matthews"),  # first in the records, though not by name
        ("muppet", "cola", "accuracy"),
        ("muppet", "squad", "f1"),
    ]


def test_the_order_of_seeds_changes_no_bit():
    values = [0.1, 0.2, 0.3, 0.7, 1e-9, 0.123456789]
    records = some("boolq", "accuracy", values, [])
    assert summarise(scores(records)).equals(summarise(scores(records[::-1])))


def test_what_cannot_be_summed_up_is_refused():
    (one,) = some("boolq", "accuracy", [0.5], [])
    with pytest.raises(BadConfig, match=r"'boolq', 'accuracy', 1\).*one finite value"):
        scores([one, one])
    with pytest.raises(BadConfig, match="finite"):
        scores(some("boolq", "accuracy", [math.nan], []))
    with pytest.raises(BadConfig, match="pre-finetuned"):
        scores([Score("muppet", "scratch", "boolq", "classification", "accuracy", 1, 0.5, 9)])


def test_write_leaves_four_files_that_agree(tmp_path):
    folder = tmp_path / "new" / "deep"
    summary = write(RECORDS, folder)
    write(RECORDS, folder)  # again: replaces
    assert sorted(p.name for p in folder.iterdir()) == [
        "leaderboard.duckdb", "leaderboard.parquet", "leaderboard.png", "scores.parquet",
    ]  # fmt: skip
    assert pq.read_table(folder / "leaderboard.parquet").equals(summary)
    assert pq.read_table(folder / "scores.parquet").equals(scores(RECORDS))
    with duckdb.connect(str(folder / "leaderboard.duckdb"), read_only=True) as connection:
        assert connection.sql("from leaderboard").to_arrow_table().to_pylist() == (
            summary.to_pylist()
        )
        assert connection.sql("from scores").to_arrow_table().equals(scores(RECORDS))


@pytest.mark.parametrize("recipes", [0, 1, 2, 4])
def test_the_picture_has_the_same_bytes_each_time(tmp_path, caplog, recipes):
    records = [
        record
        for n in range(recipes)
        for record in some(f"task{n}", "f1", [0.4, 0.5], [-0.5], recipe=f"recipe-{n}")
    ]
    summary = summarise(scores(records))
    for name in ("one.png", "two.png"):
        draw(summary, tmp_path / name)
    first, second = (tmp_path / "one.png").read_bytes(), (tmp_path / "two.png").read_bytes()
    assert first == second and first.startswith(b"\x89PNG")
    assert b"Software" not in first and b"Date" not in first
    assert not caplog.records  # as of a font that is not there
    width, height = struct.unpack(">II", first[16:24])
    assert width <= 1_200, "a page clips what is wider"
    assert height > 200 * recipes, "recipes are stacked"


def test_the_picture_shows_every_mean_spread_and_gain(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    draw(summarise(scores(RECORDS)), tmp_path / "any.png")
    (axis,) = figures[0].axes
    assert axis.get_title(loc="left") == "muppet"
    tasks = dict(
        zip((t.get_text() for t in axis.get_yticklabels()), axis.get_yticks(), strict=True)
    )
    assert sorted(tasks, key=tasks.get) == ["boolq", "cola", "squad"]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    shown = {
        (task, float(dot.get_xdata()[0])): dot.get_markerfacecolor()
        for dot in dots for task, y in tasks.items() if abs(dot.get_ydata()[0] - y) < 0.3
    }  # fmt: skip
    base = {place for place, colour in shown.items() if colour == "white"}
    assert len(shown) == len(dots) == 5 and base == {("boolq", 80.0), ("cola", -5.0)}
    assert shown.keys() - base == {("boolq", 75.0), ("cola", 20.0), ("squad", 60.0)}
    bars = {
        (task, *(round(float(x), 3) for x in path.vertices[:, 0]))
        for bar in axis.collections for path in bar.get_paths() if len(path.vertices) == 2
        for task, y in tasks.items() if abs(path.vertices[0, 1] - y) < 0.3
    }  # fmt: skip
    assert bars == {("cola", -12.071, 2.071), ("cola", 5.858, 34.142), ("squad", 50, 70)}
    low, high = axis.get_xlim()
    assert low < -12.071 and high > 80
    texts = {text.get_text(): text.get_color() for text in axis.texts}
    assert texts["−5.00"] == "#D55E00" and texts["+25.00"] == "#0072B2"  # a loss, a gain
    assert texts.keys() >= {"+10.00", "mean, 2 tasks", "matthews", "classification", "mrc", "–"}


def test_markdown_is_times_100_with_spreads():
    lines = markdown(summarise(scores(RECORDS))).splitlines()
    assert lines[0].startswith("| recipe | task | metric | base | pre-finetuned | gain |")
    assert lines[2:] == [
        "| muppet | boolq | **accuracy** | 80.00 | 75.00 | −5.00 | 1 | 3,270 |",
        "| muppet | cola | **matthews** | −5.00 ± 7.07 | 20.00 ± 14.14 | +25.00 | 2 | 1,043 |",
        "| muppet | cola | accuracy | 60.00 ± 0.00 | 70.00 ± 0.00 | +10.00 | 2 | 1,043 |",
        "| muppet | squad | **f1** | – | 60.00 ± 10.00 | – | 3 | 277 |",
    ]


def test_the_terminal_shows_every_task_in_80_columns():
    console = Console(file=io.StringIO(), width=80)
    print_table(summarise(scores(RECORDS)), console)
    shown = console.file.getvalue()
    assert "−5.00 ± 7.07" in shown and "+25.00" in shown and "squad" in shown
    assert max(map(len, shown.splitlines())) <= 80
    tasks = [line for line in shown.splitlines() if "boolq" in line or "squad" in line]
    assert [line.index(word) for line, word in zip(tasks, ("accuracy", "f1"), strict=True)] == [
        shown.splitlines()[2].index("metric")
    ] * 2  # words stand to the left, numbers to the right
    assert len({line.rindex(digit) for line, digit in zip(tasks, "07", strict=True)}) == 1
