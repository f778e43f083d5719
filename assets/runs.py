"""Training runs as metadata, in the order people read: how good, the curves, the tracker, what it
cost, then the rest."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import dagster as dg

from assets.pictures import curves, seed_curves, time_split
from assets.report import plain, table, tracked

#: What a run says of itself.
Facts = Mapping[str, Any]
#: What a run says of its choice of the best state, and of steps it had to skip.
CHOICE = ("stopped_early", "best_step", "best_score", "skipped")
SCORE, LOSS, SPEED = "validation/mean", "train/loss", "train/tokens_per_second"


def one_run(facts: Facts, metrics: Path) -> dict[str, Any]:
    """Metadata of a run of one seed, from its facts and its metrics file."""
    lines = _lines(metrics)
    speeds = [
        each["train/tokens_per_second"] for each in lines if "train/tokens_per_second" in each
    ]
    last = facts["metrics"]
    several = {n: v for n, v in last.items() if n.startswith("validation/") and n.count("/") > 1}
    return {
        **({SCORE: last[SCORE]} if SCORE in last else {}),
        "curves": dg.MetadataValue.md(curves(metrics)),
        **tracked([facts]),
        **_cost([(facts, lines)]),
        **{n: plain(facts[n]) for n in ("steps", *CHOICE) if facts.get(n) is not None},
        **({"tokens_per_second": median(speeds)} if speeds else {}),
        **{n: plain(v) for n, v in last.items() if n.count("/") == 1 and n != SCORE},
        **({"validation": dg.MetadataValue.json(several)} if several else {}),
        "time_split": dg.MetadataValue.json(time_split(metrics)),
    }


def all_seeds(
    facts: Mapping[str, Mapping[str, Any]], metrics: Mapping[str, Path]
) -> dict[str, Any]:
    """Metadata of several runs that differ by their seed: a row and a line of the picture each."""
    runs = [(facts[seed], _lines(path)) for seed, path in metrics.items()]
    scores = [each["metrics"][SCORE] for each in facts.values() if SCORE in each["metrics"]]
    return {
        **({SCORE: mean(scores)} if scores else {}),
        "seeds": dg.MetadataValue.md(table(_seeds(facts))),
        "curves": dg.MetadataValue.md(seed_curves(metrics)),
        **tracked(list(facts.values())),
        **_cost(runs),
        "steps": sum(each["steps"] for each in facts.values()),
    }


def _seeds(facts: Mapping[str, Facts]) -> list[dict[str, str]]:
    """A row for each seed, then mean and standard deviation of each number. What tells seeds apart,
    and no more, for a table that is wider than the page is cut off there."""
    numbers = {
        seed: {n: v for n, v in run["metrics"].items() if n.startswith(("validation/", LOSS))}
        | {n: run[n] for n in CHOICE if isinstance(run.get(n), int | float)}
        for seed, run in facts.items()
    }
    names = list(dict.fromkeys(name for each in numbers.values() for name in each))
    names = [name for name in names if not name.startswith(f"{LOSS}/")]
    names.sort(key=lambda name: (name != SCORE, not name.startswith("validation/")))
    rows = [
        {"seed": seed} | {n: _short(each.get(n)) for n in names} for seed, each in numbers.items()
    ]
    columns = {n: [each[n] for each in numbers.values() if n in each] for n in names}
    rows.append({"seed": "mean"} | {n: _short(mean(values)) for n, values in columns.items()})
    if len(numbers) > 1:
        spread = {n: _short(stdev(values)) for n, values in columns.items() if len(values) > 1}
        rows.append({"seed": "s.d."} | spread)
    return rows


def _cost(runs: list[tuple[Facts, list[dict]]]) -> dict[str, Any]:
    """Seconds of training, on what, and the hours of a GPU that they come to."""
    seconds = sum(_seconds(lines) for _, lines in runs)
    facts = runs[0][0]
    if "device" not in facts:  # trained by an earlier version
        return {"seconds": round(seconds, 1)}
    gpu_hours = 0.0 if facts["device"] == "cpu" else seconds * facts["workers"] / 3600
    return {
        "seconds": round(seconds, 1), "device": facts["device"], "workers": facts["workers"],
        "gpu_hours": round(gpu_hours, 3),
    }  # fmt: skip


def _seconds(lines: list[dict]) -> float:
    """The steps' time as the log windows measured it: start-up is not in it, nor what was trained
    in vain before a kill."""
    seconds, before = 0.0, -1
    for line in lines:
        if "time/step_ms" in line:
            seconds += (line["step"] - before) * line["time/step_ms"] / 1000
            before = line["step"]
    return seconds


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _lines(metrics: Path) -> list[dict]:
    return [json.loads(line) for line in Path(metrics).read_text().splitlines()]
