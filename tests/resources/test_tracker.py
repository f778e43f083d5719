"""The tracker against real W&B: offline runs read back from disk, and a server that is away."""

import json
import logging
import sys
import time

import numpy as np
import pytest
from wandb_files import read, records

from resources.follow import follow
from resources.redact import REDACTED, clean
from resources.tracker import Run, Tracker

KEY = "q" * 20 + "w" * 24


@pytest.fixture(autouse=True)
def no_account(monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def warnings(caplog):
    """What the tracker itself told."""
    ours = (r for r in caplog.records if r.name == "resources.tracker")
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


def test_an_offline_run_is_whole_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_SERVICE_TOKEN", KEY)
    config = {
        "recipe": "muppet", "batch": {"tokens": 4096, "rows": np.int64(32)}, "hf_token": KEY,
        "command": f"train --with {KEY}", "data": {"boolq": "a1b2"},
    }  # fmt: skip
    tracker = Tracker(directory=str(tmp_path / "new"))
    with tracker.run(
        name="muppet · seed 1", group="dagster-run", config=config, job_type="train", id="a/b:1"
    ) as run:
        run.log(1, {"train/loss": np.float32(0.5), "train/loss/boolq": 1, "word": "no"})
        run.log(7, {"train/loss": float("nan"), "rate": float("inf"), "lr": 1e-5})
        run.log(3, {"train/loss": 9.0})  # older: skipped
        run.summary({"best": np.float64(0.25), "worst": float("nan"), "commit": "abc"})
        run.artifact("model", "model", tmp_path, {"hash": "x"})  # offline: nothing
    assert (run.id, run.url) == ("a-b-1", None)
    assert run.path.parent.parent == tmp_path / "new"

    about, seen, history, summary = read(run.path)
    assert about.display_name == "muppet · seed 1"
    assert (about.run_group, about.job_type) == ("dagster-run", "train")
    assert about.project == "muppet-dag"
    assert (about.host, about.git.commit) == ("", "")
    assert seen["recipe"] == "muppet" and seen["batch"] == {"tokens": 4096, "rows": 32}
    assert seen["data"] == {"boolq": "a1b2"} and seen["hf_token"] == REDACTED
    assert history == {1: {"train/loss": 0.5, "train/loss/boolq": 1}, 7: {"lr": 1e-5}}
    assert summary["best"] == 0.25 and summary["commit"] == "abc" and "worst" not in summary

    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not [p for p in files if KEY.encode() in p.read_bytes()]
    assert not [p for p in files if p.name in ("wandb-metadata.json", "requirements.txt")]


def test_a_failure_inside_is_the_callers_and_is_recorded(tmp_path):
    with (
        pytest.raises(ZeroDivisionError),
        Tracker(directory=str(tmp_path)).run(name="x") as run,
    ):
        1 / 0  # noqa: B018
    codes = [r.exit.exit_code for r in records(run.path) if r.HasField("exit")]
    assert codes == [1]


def test_two_runs_at_once_stay_apart(tmp_path):
    tracker = Tracker(directory=str(tmp_path))
    with tracker.run(name="one") as one, tracker.run(name="two") as two:
        one.log(1, {"x": 1.0})
        two.log(1, {"x": 2.0})
    assert read(one.path)[2] == {1: {"x": 1.0}} and read(two.path)[2] == {1: {"x": 2.0}}


@pytest.fixture
def fresh_wandb():
    """wandb reads its environment once per process; forget what it read, before and after."""
    import wandb

    wandb.teardown()
    yield
    wandb.teardown()


@pytest.mark.usefixtures("fresh_wandb")
def test_a_server_that_is_away_neither_stops_nor_holds_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the discard port: closed
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    began = time.monotonic()
    with Tracker(directory=str(tmp_path), timeout=3).run(name="x", id="x") as run:
        run.log(1, {"loss": 1.0})
        run.artifact("model", "model", tmp_path)
    assert time.monotonic() - began < 20
    (told,) = warnings(caplog)
    assert "did not start (online)" in told and "127.0.0.1" in told
    assert KEY not in caplog.text
    assert run.id == "x-offline" and read(run.path)[2] == {1: {"loss": 1.0}}  # kept on disk
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_without_wandb_work_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)  # `import wandb` now raises ImportError
    with Tracker(directory=str(tmp_path)).run(name="x") as run:
        run.log(1, {"loss": 1.0})
        run.summary({"loss": 1.0})
    assert (run.id, run.url, run.path) == (None, None, None)
    assert len(warnings(caplog)) == 1


def test_it_is_a_dagster_resource(tmp_path):
    import dagster as dg

    @dg.asset
    def trained(tracker: Tracker) -> None:
        with tracker.run(name="x", id="as-asset") as run:
            run.log(1, {"loss": 0.5})

    tracker = Tracker(mode="offline", directory=str(tmp_path))
    assert dg.materialize(
        [trained], resources={"tracker": tracker}, instance=dg.DagsterInstance.ephemeral()
    ).success
    (folder,) = (tmp_path / "wandb").glob("offline-run-*-as-asset")
    assert read(folder)[2] == {1: {"loss": 0.5}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.materialize(
            [trained],
            resources={"tracker": Tracker.configure_at_launch()},
            run_config={"resources": {"tracker": {"config": {"mode": "loud"}}}},
            instance=dg.DagsterInstance.ephemeral(),
        )


def test_disabled_never_touches_wandb(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with Tracker(mode="disabled", directory=str(tmp_path)).run(name="x") as run:
        run.log(1, {"loss": 1.0})
    assert not warnings(caplog) and not list(tmp_path.iterdir())


class Broken:
    """A wandb run whose every call fails."""

    id, dir, url, calls = "x", "/nowhere/files", "https://w", 0

    def log(self, *_, **__):
        type(self).calls += 1
        raise OSError("wandb-core is gone")

    finish = log_artifact = log


def test_the_first_failure_is_told_once(caplog):
    run = Run(Broken(), online=True)
    for step in range(3):
        run.log(step, {"loss": 1.0})
    run.summary({"loss": 1.0})
    assert Broken.calls == 1
    run.finish()
    (told,) = warnings(caplog)
    assert "no further: OSError: wandb-core is gone" in told


def test_an_artifact_takes_files_and_folders(tmp_path):
    class Online(Broken):
        def log_artifact(self, artifact):
            self.artifact = artifact
            return self

        def wait(self, timeout):
            self.waited = timeout

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    (tmp_path / "manifest.json").write_text("{}")
    fake = Online()
    Run(fake, online=True, patience=7).artifact(
        "muppet/model", "model", [tmp_path / "model", tmp_path / "manifest.json"], {"secret": "s"}
    )
    assert sorted(fake.artifact.manifest.entries) == ["manifest.json", "weights"]
    assert fake.artifact.name.startswith("muppet-model") and fake.waited == 7
    assert dict(fake.artifact.metadata) == {"secret": REDACTED}


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("HF_TOKEN", "abc", False), ("apiKey", "abc", False), ("api_key", ["abc"], False),
        ("clientSecret", {"a": "b"}, False), ("db.password", 1234, False),
        ("url", "https://me:pw@host/x", False), ("note", "uses hf_abcdefghijklmnop", False),
        ("tokens", {"boolq": "a1"}, True), ("tokenizer", "roberta", True), ("lr", 1e-5, True),
        ("max_token_length", 256, True), ("monkey", "no key", True), ("none", None, True),
        ("url", "https://host/x", True), ("flags", [True, False], True),
    ],
)  # fmt: skip
def test_secrets_are_known_by_name_and_by_look(key, value, kept):
    found = clean({key: value})[key]
    assert found == value if kept else REDACTED in found


class Seen(Run):
    def __init__(self):
        super().__init__()
        self.rows = []

    def log(self, step, values):
        self.rows.append((step, dict(values)))


def wait_for(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def line(step, **values):
    return json.dumps({"step": step, **values}) + "\n"


def test_follow_logs_lines_as_they_appear_and_drains_the_rest(tmp_path):
    path, run = tmp_path / "metrics.jsonl", Seen()
    with follow(path, run, every=0.01):
        time.sleep(0.03)  # the file does not exist yet
        path.write_text(line(1, loss=1.0) + '{"step": 2, "lo')
        wait_for(lambda: run.rows)
        time.sleep(0.03)
        assert run.rows == [(1, {"loss": 1.0})]  # the half line waits
        with path.open("a") as file:
            file.write('ss": 0.5}\n' + line(3, loss=0.4) + "broken\n[1]\n" + line(4, loss=0.3))
            file.write('{"step": 5, "loss": 0.2}')
    assert [step for step, _ in run.rows] == [1, 2, 3, 4]  # the last line never ended


def test_follow_survives_a_trainer_that_resumes(tmp_path):
    path, run = tmp_path / "metrics.jsonl", Seen()
    with follow(path, run, every=0.01):
        path.write_text("".join(line(s, loss=float(s)) for s in range(1, 6)))
        wait_for(lambda: len(run.rows) == 5)
        path.write_text("".join(line(s, loss=float(s)) for s in range(1, 3)))
        time.sleep(0.05)
        with path.open("a") as file:
            file.writelines(line(s, loss=float(s)) for s in range(3, 8))
    assert [step for step, _ in run.rows] == [1, 2, 3, 4, 5, 6, 7]


def test_follow_notices_a_rewrite_that_is_longer_than_before(tmp_path):
    path, run = tmp_path / "metrics.jsonl", Seen()
    with follow(path, run, every=0.01):
        path.write_text(line(1, speed=1.0) + line(2, speed=2.0))
        wait_for(lambda: len(run.rows) == 2)
        new = tmp_path / "new"
        new.write_text("".join(line(s, speed=s + 0.125) for s in range(1, 5)))
        new.replace(path)
    assert [step for step, _ in run.rows] == [1, 2, 3, 4]


def test_follow_keeps_new_names_of_the_same_step(tmp_path):
    path, run = tmp_path / "metrics.jsonl", Seen()
    path.write_text(line(1, loss=1.0) + line(1, loss=1.0, accuracy=0.5))
    with follow(path, run):
        pass
    assert run.rows == [(1, {"loss": 1.0}), (1, {"accuracy": 0.5})]


def test_follow_into_a_real_run(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with Tracker(directory=str(tmp_path)).run(name="x") as run, follow(path, run):
        path.write_text("".join(line(s, **{"train/loss": 1 / s}) for s in (10, 20)))
    assert read(run.path)[2] == {10: {"train/loss": 0.1}, 20: {"train/loss": 0.05}}
