"""A run that is killed or stopped at any moment ends with the very bytes of one that is not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from workbench import weights

from muppet_dag.recipes import MixtureSection
from muppet_dag.training.__main__ import main
from muppet_dag.training.job import Job
from muppet_dag.training.launch import environment

TASKS = ("sst2", "commonsense_qa", "squad")
STEPS = 40
LONG = MixtureSection(
    slot_tokens=512, slot_rows=8, slots_per_step=3, bucket_slots=4, steps=STEPS
)  # fmt: skip
#: Dropout stays on: its noise, too, must be the same after a resume.
SETTINGS = {"mixture": LONG, "checkpoint_every": 2, "dropout": 0.1, "clip_norm": 1.0}


@pytest.fixture(autouse=True)
def one_thread():
    """As many as the processes have that are started here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(bench, tmp_path_factory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    bench.job(output, *TASKS, **SETTINGS).write(output / "job.json")
    assert main([str(output / "job.json")]) == 0
    return weights(output / "model")


@pytest.fixture
def job(bench, tmp_path) -> Job:
    job = bench.job(tmp_path / "run", *TASKS, **SETTINGS)
    job.write(tmp_path / "run" / "job.json")
    return job


def start(job: Job) -> subprocess.Popen:
    command = [sys.executable, "-m", "muppet_dag.training", f"{job.output}/job.json"]
    env = {**os.environ, **environment()}  # ends with this process
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def checkpoints(job: Job) -> list[Path]:
    return sorted(Path(job.output, "checkpoints").glob("step-*"))


def wait_for_checkpoints(job: Job, child: subprocess.Popen, count: int = 1) -> None:
    """Until that many steps were kept more than at the start."""
    last = checkpoints(job)[-1:]
    for _ in range(count):
        while checkpoints(job)[-1:] == last:
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.002)
        last = checkpoints(job)[-1:]


def stop_while_writing(job: Job, child: subprocess.Popen) -> None:
    """Freeze the process at a moment when a checkpoint is half written."""
    writing = Path(job.output, "checkpoints", ".writing")
    while True:
        assert child.poll() is None, child.stderr.read()
        if not writing.exists():
            continue
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        if writing.exists():
            return
        os.kill(child.pid, signal.SIGCONT)


def finish(job: Job) -> None:
    assert main([f"{job.output}/job.json"]) == 0


def reported(job: Job) -> list[int]:
    lines = Path(job.output, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "later",
    [
        pytest.param(False, id="at once", marks=pytest.mark.slow),
        pytest.param(True, id="in the background"),
    ],
)
def test_killed_at_random_moments_and_run_again_the_model_is_the_same(
    bench, tmp_path, undisturbed, kills, later
):
    """A checkpoint is written every step, so that many a kill comes in the middle of one."""
    settings = {**SETTINGS, "checkpoint_every": 1, "async_checkpoints": later}
    job = bench.job(tmp_path / "run", *TASKS, **settings)
    job.write(tmp_path / "run" / "job.json")
    for _ in range(kills):
        child = start(job)
        wait_for_checkpoints(job, child)
        time.sleep(random.uniform(0, 0.5 / kills))
        child.kill()
        child.wait()
        assert not Path(job.output, "model").exists()
    finish(job)
    assert weights(Path(job.output, "model")) == undisturbed
    assert reported(job) == list(range(STEPS))


def test_killed_while_a_checkpoint_is_written_the_model_is_the_same(job, undisturbed):
    child = start(job)
    wait_for_checkpoints(job, child, 2)
    stop_while_writing(job, child)
    child.kill()
    child.wait()
    assert Path(job.output, "checkpoints", ".writing").exists()
    assert all((path / "state.json").is_file() for path in checkpoints(job))
    finish(job)
    assert weights(Path(job.output, "model")) == undisturbed
    assert reported(job) == list(range(STEPS))


def test_asked_to_stop_it_leaves_a_checkpoint_says_so_and_goes_on_later(job, undisturbed):
    child = start(job)
    wait_for_checkpoints(job, child)
    child.send_signal(signal.SIGTERM)
    _, output = child.communicate(timeout=20)  # as long as Dagster waits
    assert child.returncode == 143
    assert "run again to resume" in output and "Traceback" not in output
    step = int(output.split("stopped after step ")[1].split(";")[0])
    assert checkpoints(job)[-1].name == f"step-{step:08d}"
    finish(job)
    assert weights(Path(job.output, "model")) == undisturbed
    assert reported(job) == list(range(STEPS))


@pytest.mark.slow
def test_the_same_command_twice_waits_for_the_first_and_goes_on_where_it_was_killed(
    job, undisturbed
):
    first = start(job)
    wait_for_checkpoints(job, first)
    first.send_signal(signal.SIGSTOP)  # else it may be done before the second has begun
    second = start(job)
    word = second.stderr.readline()
    assert f"waiting for process {first.pid} on " in word and f"trains in {job.output}" in word
    first.kill()
    first.wait()
    left = checkpoints(job)[-1].name
    _, output = second.communicate(timeout=120)
    assert second.returncode == 0 and f"from step {int(left.removeprefix('step-'))} " in output
    assert weights(Path(job.output, "model")) == undisturbed


def test_leftovers_of_killed_writes_do_no_harm(job, undisturbed):
    folder = Path(job.output, "checkpoints")
    for name in (".writing", "step-00000099"):  # the second as if a removal was cut short
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_bytes(b"half")
    Path(job.output, ".model").mkdir()
    Path(job.output, ".model", "heads.safetensors").write_bytes(b"half")
    finish(job)
    assert weights(Path(job.output, "model")) == undisturbed


def test_signals_are_as_before_when_training_is_over(bench, tmp_path):
    """A second job, or the predictions of this one, must not swallow them."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    job = bench.job(tmp_path, "sst2")
    job.write(tmp_path / "job.json")
    finish(job)
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
