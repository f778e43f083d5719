"""A training run's metadata: in the order people read, and of all its seeds."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from statistics import mean, stdev

import pytest

from assets.runs import all_seeds, one_run


def written(folder: Path, seed: int, steps: int = 6, every: int = 2) -> Path:
    """The metrics of a run whose steps take ``seed`` ms, and that is cut off in a log window."""
    lines = [
        {"step": step, "train/loss": 1.0 / seed, "time/step_ms": float(seed),
         "train/tokens_per_second": 50.0}
        for step in range(every - 1, steps, every)
    ]  # fmt: skip
    lines.append({"step": steps - 1, "validation/mean": 0.1 * seed})
    path = folder / f"seed-{seed}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def facts(seed: int, device: str = "cpu", workers: int = 1) -> dict:
    metrics = {"train/loss": 1.0 / seed, "train/loss/rte": 1.0, "train/learning_rate": 0.0,
               "validation/mean": 0.1 * seed,
               "validation/rte/accuracy": 0.1 * seed}  # fmt: skip
    return {"steps": 6, "device": device, "workers": workers, "metrics": metrics,
            "tracked": [f"/runs/{seed}"]}  # fmt: skip


def test_what_people_ask_first_stands_first(tmp_path):
    shown = one_run(facts(3), written(tmp_path, 3))
    first = ["validation/mean", "curves", "wandb", "seconds", "device", "workers", "gpu_hours"]
    assert list(shown)[: len(first)] == first and {"steps", "time_split"} < set(shown)


@pytest.mark.parametrize(
    ("device", "workers", "hours"), [("cpu", 8, 0), ("NVIDIA H100", 1, 10), ("NVIDIA H100", 8, 80)]
)
def test_gpu_hours_are_those_of_all_workers_and_none_on_a_cpu(tmp_path, device, workers, hours):
    shown = one_run(facts(2, device, workers), written(tmp_path, 2, 18_000_000, 1_000_000))
    assert shown["seconds"] == 36_000 and shown["gpu_hours"] == hours


def test_a_model_of_an_earlier_version_is_shown_without_its_device(tmp_path):
    old = {k: v for k, v in facts(2).items() if k not in ("device", "workers", "tracked")}
    shown = one_run(old, written(tmp_path, 2))
    assert "device" not in shown and shown["seconds"] == 0


@pytest.mark.parametrize("seeds", [(5,), (1, 2), (4, 2, 9)])
def test_all_seeds_are_shown_each_with_its_row_and_their_mean(tmp_path, seeds):
    files = {str(seed): written(tmp_path, seed) for seed in seeds}
    shown = all_seeds({str(seed): facts(seed) for seed in seeds}, files)
    first = ["validation/mean", "seeds", "curves", "wandb", "seconds"]
    assert list(shown)[: len(first)] == first
    scores = [0.1 * seed for seed in seeds]
    assert shown["validation/mean"] == pytest.approx(mean(scores))
    head, _, *rows = shown["seeds"].value.splitlines()
    named = [cell.strip("| ") for cell in head.split(" | ")]
    assert named == ["seed", "validation/mean", "validation/rte/accuracy", "train/loss"]
    cells = {row.strip("| ").split(" | ")[0]: row.split(" | ")[1] for row in rows}
    assert list(cells) == [*map(str, seeds), "mean", *(["s.d."] if len(seeds) > 1 else [])]
    assert float(cells["mean"]) == pytest.approx(mean(scores), rel=1e-3)
    if len(seeds) > 1:
        assert float(cells["s.d."]) == pytest.approx(stdev(scores), rel=1e-3)
    assert shown["wandb"].value.count("/runs/") == len(seeds)
    assert shown["seconds"] == pytest.approx(6 * sum(seeds) / 1000, abs=0.06)
    data = re.search(r"base64,(.*)\)", shown["curves"].value)[1]
    assert base64.b64decode(data).startswith(b"\x89PNG")
