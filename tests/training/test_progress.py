"""What a run says of its speed: the numbers add up, and outlive a kill where they can."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import passes
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from workbench import SMALL

from muppet_dag.mixture.batch import Batch
from muppet_dag.model.multitask import load
from muppet_dag.training.__main__ import run
from muppet_dag.training.engine import Engine
from muppet_dag.training.flops import Flops, peak_of
from muppet_dag.training.group import Group
from muppet_dag.training.progress import PHASES, Clock, Progress, computed_tokens
from muppet_dag.training.trainer import Trainer

ALONE = Group(0, 1, torch.device("cpu"))


def lines(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def batch(task: str, lengths: list[int], targets: list[int] | None = None) -> Batch:
    """A slot of which only the lengths are real; one sequence a row."""
    rows, targets = len(lengths), targets or [0] * len(lengths)
    return Batch(
        task=task, rows=np.arange(rows), examples=np.arange(rows), sequences=np.ones(rows, int),
        input_ids=np.zeros(sum(lengths), int), lengths=np.array(lengths), second=np.array(lengths),
        labels=np.zeros(rows, int), scores=np.zeros(rows), span=np.zeros((rows, 2), int),
        passage=np.zeros((rows, 2), int), target=np.zeros(sum(targets), int),
        target_lengths=np.array(targets),
    )  # fmt: skip


# --- Time -----------------------------------------------------------------------------------------


def test_phases_are_told_apart_and_the_rest_is_nobodys():
    clock = Clock(torch.device("cpu"))
    for name, seconds in (("forward", 0.02), ("backward", 0.04), ("forward", 0.02)):
        with clock.phase(name):
            time.sleep(seconds)
    time.sleep(0.01)
    read = clock.read()
    assert read["forward"] >= 0.04 and read["backward"] >= 0.04 and read["optimizer"] == 0
    assert sum(read[name] for name in PHASES) <= read["all"] - 0.01
    clock.clear()
    assert clock.read()["forward"] == 0


def test_waiting_for_an_item_is_time_for_data_and_using_it_is_not():
    def slowly():
        for number in range(3):
            time.sleep(0.02)
            yield number

    clock, seen = Clock(torch.device("cpu")), []
    for number in clock.waiting(slowly()):
        time.sleep(0.05)
        seen.append(number)
    assert seen == [0, 1, 2]
    assert 0.06 <= clock.read()["data"] < 0.15


def test_a_step_is_made_of_its_phases(bench, tmp_path):
    run(bench.job(tmp_path, "sst2", "squad", validate_every=5, checkpoint_every=5), ALONE)
    train = [line for line in lines(tmp_path) if "train/loss" in line]
    for line in train:
        parts = {name: line[f"time/{name}_ms"] for name in PHASES}
        assert parts["forward"] > 0 and parts["backward"] > 0 and parts["optimizer"] > 0
        assert sum(parts.values()) <= line["time/step_ms"]
        assert line["memory/peak_gb"] > 0.05
        assert "train/flops_utilisation" not in line  # only where a peak is known
    # What was validated after step 5 is in the window of step 6.
    assert train[5]["time/aside_ms"] > 0 == train[4]["time/aside_ms"]


def test_useful_tokens_by_the_second_are_counted_without_validation(bench, tmp_path):
    """Else a run that validates would look slow where it is not."""
    trainer = Trainer(bench.job(tmp_path, "sst2"), ALONE)
    step = trainer.loader.read(0)
    trainer.update(step)
    with trainer.clock.phase("aside"):
        time.sleep(0.5)
    line = trainer.progress.take()
    tokens = sum(b.tokens for each in step.passes for _, b in each.slots)
    training = (line["time/step_ms"] - line["time/aside_ms"]) / 1000
    assert line["train/tokens_per_second"] == pytest.approx(tokens / training)
    assert line["time/aside_ms"] >= 500


def test_the_share_of_a_known_peak_is_that_of_the_flops_done(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", "squad"), ALONE)
    trainer.engine.peak = 1e12
    step = trainer.loader.read(0)
    trainer.update(step)
    line = trainer.progress.take()
    flops = sum(trainer.engine.flops(b) for each in step.passes for _, b in each.slots)
    seconds = (line["time/step_ms"] - line["time/aside_ms"]) / 1000
    assert line["train/flops_utilisation"] == pytest.approx(flops / seconds / 1e12)


# --- Tokens ---------------------------------------------------------------------------------------

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "sum"]), lengths), min_size=1, max_size=5))
def test_a_pass_computes_over_what_its_padded_arrays_hold(slots):
    batches = [batch(t, ls, [3 + n % 4 for n in ls] if t == "sum" else None) for t, ls in slots]
    expected = 0
    for generating in (False, True):
        some = [b for b in batches if (b.task == "sum") == generating]
        for key in ("lengths", "target_lengths"):
            all_of_them = [n for b in some for n in getattr(b, key)]
            expected += np.zeros((len(all_of_them), max(all_of_them, default=0))).size
    assert computed_tokens(batches, {"sum"}) == expected
    assert computed_tokens(batches[:1], {"sum"}) == batches[0].padded_tokens
    assert computed_tokens(batches, {"sum"}) >= sum(b.tokens for b in batches)


# --- After a kill ---------------------------------------------------------------------------------


def test_a_log_window_that_a_kill_cut_in_two_is_reported_whole(bench, tmp_path):
    """Timings apart, a resumed run writes the very numbers of one that was not disturbed."""
    settings = {"log_every": 4, "checkpoint_every": 3, "dropout": 0.1}
    for name in ("through", "killed"):
        job = bench.job(tmp_path / name, "sst2", "squad", "rte", mixture=SMALL, **settings)
        if name == "killed":
            trainer = Trainer(job, ALONE)
            for step in trainer.loader:
                trainer.update(step)
                trainer._after()
                if step.number == 6:
                    break
        run(job, ALONE)
    timed = ("time/", "memory/", "train/tokens_per_second")
    through, killed = (
        [{k: v for k, v in line.items() if not k.startswith(timed)} for line in lines(output)]
        for output in (tmp_path / "through", tmp_path / "killed")
    )
    assert [line["step"] for line in through if "train/loss" in line] == [3, 7, 9]
    assert through == killed


def test_what_was_summed_up_outlives_a_kill(bench, tmp_path):
    trainer = Trainer(bench.job(tmp_path, "sst2", "squad"), ALONE)
    assert trainer.progress.state()["norm"] is None
    trainer.update(trainer.loader.read(0))
    state = json.loads(json.dumps(trainer.progress.state()))
    assert state["norm"] > 0 and state["tokens"] > 0
    later = Progress(trainer.engine, ALONE)
    later.restore(state)
    assert json.loads(json.dumps(later.state())) == state


# --- FLOPs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "roberta", "bart", "generation"])
def test_flops_are_those_that_torch_counts(tmp_path, kind):
    """Nearly: heads are not counted."""
    bart = kind in ("bart", "generation")
    folder = passes.make(tmp_path, "bart" if bart else kind)
    spec = passes.GENERATION if kind == "generation" else passes.SPECS[0]
    model = load(folder, [spec], dropout=0.0)
    size, long = 8, 24
    inputs = passes.slot(size, shortest=long, longest=long)
    inputs |= {"target": inputs["input_ids"][: 9 * size], "target_lengths": torch.full((size,), 9)}
    own = batch("any", [long] * size, inputs["target_lengths"].tolist())
    flops = Flops(model.backbone).of(own, generates=kind == "generation")
    # The fused attention of a CPU is one that torch's counter does not know.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.logits(spec.name, inputs).sum().backward()
    assert counter.get_total_flops() == pytest.approx(flops, rel=0.02)


def test_the_regularizer_runs_twice_but_for_regression(bench, tmp_path):
    counts = {}
    for regularizer in ("none", "r3f"):
        job = bench.job(tmp_path / regularizer, "sst2", "stsb", regularizer=regularizer)
        engine = Engine(job, ALONE)
        counts[regularizer] = {t: engine.flops(batch(t, [9, 5])) for t in ("sst2", "stsb")}
    assert counts["r3f"]["sst2"] == 2 * counts["none"]["sst2"] > 0
    assert counts["r3f"]["stsb"] == counts["none"]["stsb"]


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H200", 989),
     ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40S", 362), ("NVIDIA L4", 121),
     ("NVIDIA GeForce RTX 2080", None)],
)  # fmt: skip
def test_the_peak_goes_by_the_name_of_the_device(name, tflops):
    assert peak_of(name) == (tflops and tflops * 1e12)
