"""Terminate in the UI, Ctrl-C, SIGTERM, kill -9, a crash: launched runs on a real instance.

Everything goes the way of the UI: ``dagster dev`` with its daemon, asked over GraphQL.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dag
import dagster as dg
import pytest

from deployments.local.home import prepare
from muppet_dag import samples
from muppet_dag.files import read_json
from muppet_dag.store import Store
from muppet_dag.training import parent
from muppet_dag.training.turn import LOCK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TASK = "rte"
#: Long enough to be stopped in the middle, short enough to be finished.
RECIPE = f"""
[model]
base = "tiny-bert"
max_length = 64
stride = 16
[tasks]
families = []
include = ["{TASK}"]
[mixture]
slot_tokens = 1024
slot_rows = 16
slots_per_step = 4
steps = 400
decontaminate = false
[training]
checkpoint_every = 5
validate_every = 400
validation_rows = 8
log_every = 5
[finetune]
tasks = ["{TASK}"]
"""
LOCATION = "deployments.local.definitions"
SELECTOR = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}
LAUNCHED = "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }"
LAUNCH = f"""mutation Launch($given: ExecutionParams!) {{
    launchPipelineExecution(executionParams: $given) {LAUNCHED} }}"""
AGAIN = f"""mutation Again($given: ReexecutionParams!) {{
    launchPipelineReexecution(reexecutionParams: $given) {LAUNCHED} }}"""
TERMINATE = "mutation Stop($run: String!) { terminateRun(runId: $run) { __typename } }"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with source, recipe, and a home in which all is made but the mixture."""
    folder = tmp_path_factory.mktemp("terminate")
    samples.make(folder / "source", train_rows=64, evaluation_rows=24, tasks=(TASK,))
    (folder / "recipes").mkdir()
    (folder / "recipes" / f"{dag.NAME}.toml").write_text(RECIPE)
    chosen = dag.settings(folder / "home", str(folder / "source"), folder / "recipes")
    plan = dag.plan(chosen)
    recipe = plan.recipes[dag.NAME]
    with dg.DagsterInstance.ephemeral() as instance:
        assert dag.run(chosen, instance, f"shards/{TASK}").success
        assert dag.run(chosen, instance, "base_model", partition=plan.base(recipe)).success
        tokens = dag.run(chosen, instance, f"tokens/{TASK}", partition=plan.tokenizer(recipe))
        assert tokens.success
    return folder


@pytest.fixture
def environment(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a home of this test's own."""
    shutil.copytree(prepared / "home", tmp_path / "home", symlinks=True)
    chosen = {
        "MUPPET_HOME": str(tmp_path / "home"), "MUPPET_SOURCE": str(prepared / "source"),
        "MUPPET_MODEL": "tiny-bert", "MUPPET_RECIPES": str(prepared / "recipes"),
        "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings = dag.settings(tmp_path / "home", str(prepared / "source"), tmp_path / "unused")
    home = prepare(settings)
    return {**os.environ, **chosen, "DAGSTER_HOME": str(home), **parent.variable()}


class Dagster:
    """``dagster dev`` on a port of its own."""

    def __init__(self, env: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "dagster", "dev", "-m", LOCATION, "-p", str(self.port)]
        with open(Path(env["MUPPET_HOME"], "dagster.log"), "w") as log:
            self.process = subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = json.load(answer)
        assert not content.get("errors"), content
        return content["data"]

    def launch(self) -> str:
        keys = [{"path": ["mixture"]}, {"path": ["prefinetuned"]}]
        given = {
            "selector": {**SELECTOR, "pipelineName": "__ASSET_JOB", "assetSelection": keys},
            "runConfigData": {}, "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": dag.NAME}]},
        }  # fmt: skip
        (answer,) = self.ask(LAUNCH, given=given).values()
        return answer["run"]["runId"]

    def again(self, run: str) -> str:
        given = {"parentRunId": run, "strategy": "FROM_FAILURE"}
        (answer,) = self.ask(AGAIN, given=given).values()
        return answer["run"]["runId"]

    def status(self, run: str) -> str:
        query = "query Q($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
        return self.ask(query, run=run)["runOrError"]["status"]

    def slots(self) -> int:
        """Slots of the pool that are taken."""
        query = '{ instance { concurrencyLimit(concurrencyKey: "gpu") { activeSlotCount } } }'
        return self.ask(query)["instance"]["concurrencyLimit"]["activeSlotCount"]

    def words(self, run: str) -> str:
        """All that the run's log says."""
        query = """query Q($run: ID!) { logsForRun(runId: $run, limit: 1000) {
            ... on EventConnection { events { ... on MessageEvent { message }
            ... on ExecutionStepFailureEvent { error { message } } } } } }"""
        return json.dumps(self.ask(query, run=run))


@contextmanager
def dagster(env: dict[str, str]) -> Iterator[Dagster]:
    served = Dagster(env)
    try:
        wait(lambda: answers(served), 180)
        yield served
    finally:
        os.killpg(served.process.pid, signal.SIGTERM)
        served.process.wait(60)


def answers(served: Dagster) -> bool:
    assert served.process.poll() is None
    try:
        query = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
        return bool(served.ask(query)["repositoriesOrError"]["nodes"])
    except (OSError, KeyError):
        return False


def wait(true: Callable[[], Any], seconds: float) -> float:
    """Until it is; returns how long that took."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < seconds, "this takes too long"
        time.sleep(0.1)
    return time.monotonic() - started


def steps(home: str) -> list[int]:
    """Steps that checkpoints hold."""
    found = Path(home).glob("work/*/checkpoints/step-*/state.json")
    return sorted(int(path.parent.name.removeprefix("step-")) for path in found)


def trainer(home: str) -> int:
    """The number of the process that trains, or trained last."""
    (path,) = Path(home).glob(f"work/*/{LOCK}")
    return (read_json(path) or {"pid": 0})["pid"]


def processes(home: str) -> list[str]:
    """Commands of all processes that train under a home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "muppet_dag.training" in command and home in command:
            found.append(command)
    return found


def reported(home: str, name: str = f"prefinetuned/{dag.NAME}") -> list[int]:
    folder = Store(home).require(name).path
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "train/loss" in line]


def test_a_terminated_run_is_canceled_with_a_checkpoint_and_goes_on_when_told(environment):
    home = environment["MUPPET_HOME"]
    with dagster(environment) as served:
        run = served.launch()
        wait(lambda: steps(home), 180)
        served.ask(TERMINATE, run=run)
        took = wait(lambda: served.status(run) == "CANCELED", 60)
        assert took < 15
        left = steps(home)[-1]
        assert processes(home) == [] and served.slots() == 0
        time.sleep(3)
        assert (
            processes(home) == [] and steps(home)[-1] == left and served.status(run) == "CANCELED"
        )
        assert Store(home).current(f"prefinetuned/{dag.NAME}") is None
        again = served.again(run)
        wait(lambda: served.status(again) in ("SUCCESS", "FAILURE"), 300)
        assert served.status(again) == "SUCCESS"
        assert f"from step {left} on 1 worker" in served.words(again)
    assert reported(home) == list(range(4, 400, 5))


def test_a_crash_is_tried_once_more_and_a_second_one_fails_the_run(environment):
    home = environment["MUPPET_HOME"]
    with dagster(environment) as served:
        run, killed = served.launch(), [0]
        for _ in range(2):
            wait(lambda: steps(home) and trainer(home) not in killed, 180)
            killed.append(trainer(home))
            os.kill(killed[-1], signal.SIGKILL)
        wait(lambda: served.status(run) == "FAILURE", 60)
        words = served.words(run)
        assert words.count("Second and last attempt") == 1
        assert "exit code 1, 2 times" in words
        assert processes(home) == [] and served.slots() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_by_a_signal_to_the_group_training_leaves_a_checkpoint_and_ends(
    environment, number
):
    """A whole DAG in one process, as ``make demo`` runs it."""
    home = environment["MUPPET_HOME"]
    command = [sys.executable, dag.__file__, home, environment["MUPPET_SOURCE"],
               environment["MUPPET_RECIPES"]]  # fmt: skip
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    wait(lambda: steps(home), 180)
    os.killpg(process.pid, number)
    assert process.wait(30) != 0
    assert wait(lambda: processes(home) == [], 15) < 15
    left = steps(home)[-1]
    time.sleep(2)
    assert processes(home) == [] and steps(home)[-1] == left
    assert Store(home).current(f"prefinetuned/{dag.NAME}") is None
