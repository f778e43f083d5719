"""``make ui``: what it prints, what runs beside what, and that nothing outlives it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from console import ROOT, Console, until
from dag import NAME, RECIPE, TASKS, plan, run, settings

from muppet_dag import samples


def prepared(root: Path) -> dict[str, str]:
    """A home with tokens for two recipes whose training takes long; the settings for it."""
    source = samples.make(root / "source", train_rows=64, evaluation_rows=24, tasks=TASKS)
    chosen = settings(root / "home", str(source), root / "recipes")
    for name in (NAME, "second"):
        long = RECIPE.replace("steps = 6", "steps = 100000").replace(
            "validate_every = 6", "validate_every = 1000"
        )
        (root / "recipes" / f"{name}.toml").write_text(long)
    with dg.DagsterInstance.ephemeral() as instance:
        small = plan(chosen)
        for keys, partition in (
            ([f"shards/{n}" for n in TASKS], None),
            (["overlap"], None),
            (["base_model"], "tiny-bert"),
            ([f"tokens/{n}" for n in TASKS], small.tokenizer(small.recipes[NAME])),
        ):
            assert run(chosen, instance, *keys, partition=partition).success
    return {
        "MUPPET_SOURCE": str(source), "MUPPET_MODEL": "tiny-bert",
        "MUPPET_RECIPES": str(root / "recipes"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_data_is_prepared_while_training_waits_for_the_gpu_and_nothing_outlives_the_ui(tmp_path):
    variables = prepared(tmp_path)
    before = time.monotonic()
    ui = Console(tmp_path / "home", **variables)
    try:
        assert f"127.0.0.1:{ui.port}" in ui.line("http://", timeout=30)
        assert time.monotonic() - before < 15, "the address is printed at once"
        assert f"127.0.0.1:{ui.port}" in ui.line("Ready")
        first = ui.launch(["mixture", "prefinetuned"], NAME)
        until(lambda: list((tmp_path / "home/work").rglob("step-*")), 120, "a checkpoint is there")
        second = ui.launch(["mixture", "prefinetuned"], "second")
        time.sleep(8)  # the queue has looked at it by then
        data = ui.launch(["shards/cola"])
        assert ui.wait(data, "SUCCESS", "FAILURE") == "SUCCESS"
        assert (ui.status(first), ui.status(second)) == ("STARTED", "QUEUED")
    finally:
        left = ui.stop(signal.SIGTERM)
    assert not left, left


def test_a_port_in_use_is_said_at_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MUPPET_HOME", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "deployments.local.ui", "--port", port],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1 and f"PORT={port}" in done.stderr and "Traceback" not in done.stderr
