"""The pictures of a training run, from its metrics file alone."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from assets.pictures import PHASES, curves, time_split
from muppet_dag.training import progress

TRAIN = [
    {"step": step, "train/loss": 1.0, "train/loss/rte": 1.1, "time/step_ms": 10.0,
     "time/forward_ms": 4.0, "time/backward_ms": 5.0}
    for step in (0, 1, 2)
]  # fmt: skip
VALIDATED = {"step": 2, "validation/mean": 0.6, "validation/rte/accuracy": 0.6}


def written(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def width(markdown: str) -> int:
    data = base64.b64decode(re.fullmatch(r"!\[.*\]\(data:image/png;base64,(.*)\)", markdown)[1])
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big")


def test_a_run_is_drawn_and_has_one_panel_more_where_it_was_validated(tmp_path):
    plain = curves(written(tmp_path / "plain.jsonl", *TRAIN))
    validated = curves(written(tmp_path / "validated.jsonl", *TRAIN, VALIDATED))
    assert width(validated) == pytest.approx(1.5 * width(plain), rel=0.01)


def test_a_run_without_a_log_line_is_not_drawn(tmp_path):
    assert curves(written(tmp_path / "none.jsonl", VALIDATED)) == "no step was logged"


def test_shares_of_time_are_those_of_all_windows(tmp_path):
    split = time_split(written(tmp_path / "timed.jsonl", *TRAIN, VALIDATED))
    shown = dict.fromkeys((*PHASES[:-1], "validation and checkpoints"), 0)
    assert split == pytest.approx({**shown, "forward": 0.4, "backward": 0.5})
    assert time_split(written(tmp_path / "none.jsonl", VALIDATED)) == {}
    assert PHASES == progress.PHASES  # which the DAG does not import, for torch's sake
