"""What reaches a W&B server, and what must not: a real wandb against a stand-in on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from standin_wandb import StandinWandb

from resources.tracker import Tracker

KEY = "q" * 20 + "w" * 24


@pytest.fixture
def server(monkeypatch):
    """A server that all of wandb's own variables lead to, with a key. wandb reads them once per
    process, so it forgets them before and after."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    with StandinWandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        wandb.teardown()
        yield server
        wandb.teardown()


def track(tmp_path: Path, **fields):
    (tmp_path / "model").mkdir(exist_ok=True)
    (tmp_path / "model" / "weights").write_text("w")
    tracker = Tracker(directory=str(tmp_path / "w"), timeout=10, upload_timeout=10, **fields)
    with tracker.run(name="x", id="x", config={"seed": 3}, tags=("few", "base")) as run:
        run.log(1, {"loss": 0.5})
        run.summary({"model": "abc", "validation/mean": 0.75})
        run.artifact("prefinetuned/few", "model", tmp_path / "model", {"content_hash": "abc"})
    return run


def offline(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "w").glob("wandb/offline-run-*"))


@pytest.mark.parametrize(
    ("environment", "kept"),
    [
        ({"WANDB_MODE": "offline"}, True),
        ({"WANDB_MODE": "dryrun"}, True),
        ({"WANDB_MODE": "ofline"}, False),  # no mode: W&B refuses it
        ({"WANDB_MODE": "disabled"}, False),
        ({"WANDB_DISABLED": "true"}, False),
        ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, False),
        ({"WANDB_API_KEY": ""}, True),
    ],
)
def test_nothing_leaves_the_machine_where_the_environment_says_so(
    server, tmp_path, monkeypatch, environment, kept
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = track(tmp_path)
    assert server.requests == []
    assert run.url is None and bool(run.path) == kept and bool(offline(tmp_path)) == kept
    assert run.place == (str(offline(tmp_path)[0]) if kept else None)


@pytest.mark.parametrize("environment", [{}, {"WANDB_DISABLED": "false"}, {"WANDB_MODE": "online"}])
def test_online_a_run_arrives_with_all_that_it_says(
    server, tmp_path, monkeypatch, caplog, environment
):
    environment |= {"WANDB_PROJECT": "mine", "WANDB_ENTITY": "us", "WANDB_TAGS": "night,few"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run = track(tmp_path)
    assert "no further" not in caplog.text
    assert run.place == run.url == f"{server.url}/us/mine/runs/x"
    seen = server.runs["x"]
    assert (seen["project"], seen["entity"]) == ("mine", "us")
    assert sorted(seen["tags"]) == ["base", "few", "night"]
    assert json.loads(seen["config"])["seed"]["value"] == 3
    assert seen["history"][1]["loss"] == 0.5
    assert seen["summary"]["model"] == "abc" and seen["summary"]["validation/mean"] == 0.75
    assert server.artifacts["prefinetuned-few"]["artifactTypeName"] == "model"
    assert server.files["weights"] == b"w"
    assert seen["events"] == []  # nothing of the machine


@pytest.mark.slow
def test_without_a_key_nobody_is_asked_for_one_at_a_terminal(server, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    code = (
        "from resources.tracker import Tracker\n"
        f"with Tracker(directory={str(tmp_path)!r}, timeout=20).run(name='x', id='x') as run:\n"
        "    print('kept in', run.place)"
    )
    parent, terminal = pty.openpty()
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
    )
    os.close(terminal)
    said = b""
    with contextlib.suppress(OSError):  # how a terminal tells that nobody is there any more
        while part := os.read(parent, 4096):
            said += part
    os.close(parent)
    assert process.wait(timeout=20) == 0 and time.monotonic() - began < 20, said
    assert b"offline-run" in said and b"choice" not in said and server.requests == []


def test_system_metrics_are_sent_only_where_they_are_asked_for(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_X_STATS_SAMPLING_INTERVAL", "0.5")
    tracker = Tracker(directory=str(tmp_path), timeout=10, system_metrics=True)
    with tracker.run(name="x", id="x") as run:
        end = time.monotonic() + 20
        while not server.runs["x"]["events"] and time.monotonic() < end:
            time.sleep(0.1)
    assert any(name.startswith("system.") for name in server.runs["x"]["events"][0])
    assert not list(run.path.rglob("wandb-metadata.json"))


@pytest.mark.slow
def test_the_folders_of_one_resumed_run_sync_into_one(server, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    tracker = Tracker(directory=str(tmp_path / "w"))
    for first in (1, 3):
        with tracker.run(name="x", id="x") as run:
            for step in (first, first + 1):
                run.log(step, {"loss": 1 / step})
            run.summary({"last": first})
        time.sleep(1.1)  # a folder is named by its second
    folders = sorted(map(str, offline(tmp_path)))
    assert len(folders) == 2 and server.requests == []
    monkeypatch.delenv("WANDB_MODE")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(server.runs["x"]["history"]) == [1, 2, 3, 4]
    assert server.runs["x"]["summary"]["last"] == 3
