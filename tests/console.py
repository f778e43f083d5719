"""Dagster as people run it: ``make ui``'s processes on loopback, and its buttons over GraphQL."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]

_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_REEXECUTE = """
mutation Again($params: ReexecutionParams!) {
  launchPipelineReexecution(reexecutionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
_TERMINATE = "mutation Stop($id: String!) { terminateRun(runId: $id) { __typename } }"
_STATUS = "query Run($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Console:
    """The processes of ``python -m deployments.local.ui``; ``lines`` are what it prints."""

    def __init__(self, home: Path, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.home, self.lines = home, queue.Queue()
        environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
        environment |= {"MUPPET_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deployments.local.ui", "--port", str(self.port)],
            cwd=ROOT, env=environment | variables, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.put(line.rstrip())

    def line(self, part: str, timeout: float = 120) -> str:
        """The next line that holds this part."""
        deadline = time.monotonic() + timeout
        while True:
            line = self.lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            if part in line:
                return line

    def processes(self) -> list[psutil.Process]:
        """Everything below the UI's own process."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> list[psutil.Process]:
        """Signal the UI's own process; returns what is left of its processes after that time."""
        below = self.processes() if self.process.poll() is None else []
        self.process.send_signal(number)
        self.process.wait(timeout)
        return psutil.wait_procs(below, timeout=timeout)[1]

    def launch(self, assets: Sequence[str], partition: str | None = None) -> str:
        """Materialize these assets in one run, as the button does; its id."""
        tags = [{"key": "dagster/partition", "value": partition}] if partition else []
        selector = {
            "repositoryLocationName": "muppet-dag", "repositoryName": "__repository__",
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": asset.split("/")} for asset in assets],
        }  # fmt: skip
        params = {"selector": selector, "runConfigData": {}, "mode": "default"}
        params["executionMetadata"] = {"tags": tags}
        return self._started(self.ask(_LAUNCH, params=params)["launchPipelineExecution"])

    def reexecute(self, run_id: str) -> str:
        """Re-execute a run from its failure, as the button does; the new run's id."""
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE"}
        return self._started(self.ask(_REEXECUTE, params=params)["launchPipelineReexecution"])

    def terminate(self, run_id: str) -> None:
        """Press "Terminate"."""
        self.ask(_TERMINATE, id=run_id)

    def status(self, run_id: str) -> str:
        """``QUEUED``, ``STARTED``, ``CANCELED``, …"""
        return self.ask(_STATUS, id=run_id)["runOrError"]["status"]

    def wait(self, run_id: str, *statuses: str, timeout: float = 120) -> str:
        """Wait until the run has one of these statuses; returns it."""
        until(lambda: self.status(run_id) in statuses, timeout, f"{run_id} is {statuses}")
        return self.status(run_id)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """A GraphQL query's data."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = json.load(answer)
        assert "errors" not in body, body["errors"]
        return body["data"]

    def _started(self, result: dict[str, Any]) -> str:
        assert result["__typename"] == "LaunchRunSuccess", result
        return result["run"]["runId"]


def until(true: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until something is true; AssertionError with ``what`` if it never is."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"after {timeout} s it is not so that {what}"
        time.sleep(0.2)
