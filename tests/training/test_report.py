"""What a run writes and shows while it goes."""

from __future__ import annotations

import json
from types import SimpleNamespace

from muppet_dag.training.report import Report, dagster_pipes

VALUES = {
    "train/loss": 1.23456, "train/tokens_per_second": 12345.6, "train/loss/sst2": 9.0,
    "time/step_ms": 1500.0, "time/data_ms": 2.0, "memory/peak_gb": 3.0,
}  # fmt: skip


class Pipes:
    """Stands in for Dagster's side; keeps what it is given."""

    def __init__(self) -> None:
        self.kept: list = []
        self.log = SimpleNamespace(
            info=lambda text: self.kept.append(("info", text)),
            warning=lambda text: self.kept.append(("warning", text)),
        )

    def report_custom_message(self, payload: dict) -> None:
        self.kept.append(payload)


def test_a_line_shows_the_numbers_over_all_tasks_and_the_time_left(tmp_path, capfd):
    report = Report(tmp_path, "job", 10)
    report.metrics(3, VALUES)
    report.metrics(9, VALUES)
    report.warn("hot")
    assert capfd.readouterr().err.splitlines() == [
        "[job] step 4/10 loss 1.235, tokens per second 12,346, 0:00:09 left",
        "[job] step 10/10 loss 1.235, tokens per second 12,346",
        "[job] warning: hot",
    ]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 3, **VALUES}, {"step": 9, **VALUES}]


def test_a_resumed_run_forgets_the_steps_it_takes_again(tmp_path):
    report = Report(tmp_path, "job", 10)
    report.resume(0)  # nothing was written yet
    for step in range(5):
        report.metrics(step, {"train/loss": 1.0})
    report.facts({"steps": 5})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 1, "train/lo')  # a kill came in between
    report.resume(3)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2]
    assert not (tmp_path / "run.json").exists()


def test_dagster_is_told_instead_of_the_terminal(tmp_path, capfd):
    pipes = Pipes()
    report = Report(tmp_path, "job", 10, pipes)
    report.info("goes on")
    report.warn("hot")
    report.facts({"steps": 10})
    report.done()
    told = [("info", "[job] goes on"), ("warning", "[job] hot"), {"job": "job", "steps": 10}]
    assert pipes.kept == told and capfd.readouterr().err == ""
    assert json.loads((tmp_path / "run.json").read_text()) == {"steps": 10}
    Report(tmp_path, "job", 10).done()  # by hand: no one listens


def test_only_the_first_worker_of_a_run_by_dagster_reports(monkeypatch):
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", "{}")
    with dagster_pipes(1) as pipes:
        assert pipes is None
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT")
    with dagster_pipes(0) as pipes:
        assert pipes is None
