"""The loader hands out the mixture's slots, to any number of workers, from any step."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.index import FILE, Sizes, build
from muppet_dag.mixture.loader import AHEAD, Loader, Pass, Step
from muppet_dag.recipes import MixtureSection

NAMES = ("rte", "arc_easy", "squad", "aeslc")
STEPS_AT_LEAST, SLOTS = 8, 6


@pytest.fixture(scope="module")
def paths(bench) -> dict[str, Path]:
    return {name: bench.tokens(name, "tiny-bart").path for name in NAMES}


@pytest.fixture(scope="module")
def mixture(paths, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    section = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=SLOTS, epochs=1)
    build({name: Sizes.read(path) for name, path in paths.items()}, section, 1, folder)
    return folder


@pytest.fixture(scope="module")
def whole(mixture, paths) -> list[Step]:
    return list(Loader(mixture, paths))


def slots_of(some: Step | Pass) -> list[tuple[int, str, list[int], list[int]]]:
    """Number, task, rows and ids of every slot."""
    slots = some.slots if isinstance(some, Pass) else [s for p in some.passes for s in p.slots]
    return [(slot, b.task, b.rows.tolist(), b.input_ids.tolist()) for slot, b in slots]


def test_all_steps_come_in_order_with_the_rows_of_the_table(mixture, paths, whole):
    table = pa.ipc.open_file(pa.memory_map(str(mixture / FILE))).read_all().to_pylist()
    assert len(Loader(mixture, paths)) == len(whole) >= STEPS_AT_LEAST
    assert [step.number for step in whole] == list(range(table[-1]["step"] + 1))
    used = [
        {"step": step.number, "slot": slot, "task": task, "row": row}
        for step in whole
        for slot, task, rows, _ in slots_of(step)
        for row in rows
    ]
    assert used == table


@settings(deadline=None, max_examples=120)
@given(
    number=st.integers(0, STEPS_AT_LEAST - 1), world=st.integers(1, 7), per_pass=st.integers(1, 4),
    even=st.booleans(),
)  # fmt: skip
def test_workers_share_out_the_passes_of_every_step(
    mixture, paths, whole, number, world, per_pass, even
):
    kind = {"slots_per_pass": per_pass, "even": even, "world": world}
    ranks = [Loader(mixture, paths, rank=rank, **kind).read(number) for rank in range(world)]
    alone = Loader(mixture, paths, slots_per_pass=per_pass).read(number).passes
    assert [slot for each in alone for slot in slots_of(each)] == slots_of(whole[number])
    assert all(len(each.slots) == per_pass for each in alone[:-1])
    counted = [slots_of(each) for rank in ranks for each in rank.passes if each.counts]
    assert sorted(counted) == [slots_of(each) for each in alone]
    assert {rank.total_slots for rank in ranks} == {len(slots_of(whole[number]))}
    counts = [len(rank.passes) for rank in ranks]
    assert max(counts) - min(counts) <= (0 if even else 1)
    fillers = [slots_of(p) for rank in ranks for p in rank.passes if not p.counts]
    assert all(each == slots_of(alone[0]) for each in fillers)
    assert len(fillers) == (-len(alone) % world if even else 0)


def test_a_worker_may_have_nothing_to_do_in_a_step(mixture, paths):
    step = Loader(mixture, paths, rank=7, world=8).read(0)
    assert step.passes == [] and step.total_slots == SLOTS


@settings(deadline=None, max_examples=20)
@given(start=st.integers(0, STEPS_AT_LEAST), world=st.integers(1, 3), per_pass=st.integers(1, 3))
def test_starting_at_a_step_is_the_same_as_skipping_to_it(mixture, paths, start, world, per_pass):
    options = {"rank": world - 1, "world": world, "slots_per_pass": per_pass}
    skipped = islice(Loader(mixture, paths, **options), start, None)
    later = Loader(mixture, paths, start=start, **options)
    for one, other in zip(skipped, later, strict=True):
        assert (one.number, one.total_slots) == (other.number, other.total_slots)
        assert [slots_of(p) for p in one.passes] == [slots_of(p) for p in other.passes]


def test_starting_at_the_end_gives_nothing(mixture, paths, whole):
    assert list(Loader(mixture, paths, start=len(whole))) == []


# --- What cannot be read --------------------------------------------------------------------------


def test_a_task_without_tokens_is_named(mixture, paths):
    some = {name: path for name, path in paths.items() if name != "squad"}
    with pytest.raises(MuppetError, match="no tokens for squad"):
        Loader(mixture, some)


def first_with(whole: list[Step], task: str) -> int:
    return next(s.number for s in whole if any(name == task for _, name, *_ in slots_of(s)))


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Threads that read ahead are there inside, and gone afterwards."""
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("loader")] == []


def test_rows_of_other_tokens_are_an_error_that_names_step_and_task(
    mixture, paths, tmp_path, whole
):
    """The mixture was made of all rows; tokens of the small validation split stand in for fewer."""
    (tmp_path / "train.arrow").symlink_to(paths["squad"] / "validation.arrow")
    steps = []
    with (
        no_thread_left(),
        pytest.raises(MuppetError, match=r"step \d+, task 'squad': .*no token row.*make it again"),
    ):
        for step in Loader(mixture, {**paths, "squad": tmp_path}):
            steps.append(step.number)
    assert steps == list(range(len(steps))) and len(steps) < len(whole)


def test_token_files_are_opened_when_their_task_comes(mixture, paths, whole, tmp_path):
    number = first_with(whole, "aeslc")
    loader = Loader(mixture, {**paths, "aeslc": tmp_path})
    with pytest.raises(MuppetError, match=rf"step {number}, task 'aeslc': .*no such token file"):
        loader.read(number)


# --- Reading ahead --------------------------------------------------------------------------------


def test_leaving_the_loop_early_ends_the_reading_ahead(mixture, paths):
    with no_thread_left():
        for step in Loader(mixture, paths):
            assert step.number == 0
            assert any(t.name.startswith("loader") for t in threading.enumerate())
            break


def test_a_few_steps_are_read_ahead_and_no_more(mixture, paths, monkeypatch):
    loader, seen = Loader(mixture, paths), []
    read = loader.read
    monkeypatch.setattr(loader, "read", lambda number: (read(number), seen.append(number))[0])
    steps = iter(loader)
    for used in range(1, 4):
        next(steps)
        deadline = time.monotonic() + 20
        while len(seen) < used + AHEAD and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert seen == list(range(used + AHEAD))
    steps.close()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_tensors_are_pinned_ahead(mixture, paths, whole):
    for step, plain in zip(Loader(mixture, paths, pin=True), whole, strict=True):
        assert slots_of(step) == slots_of(plain)
        for each in step.passes:
            tensors = [batch.tensors()["input_ids"] for _, batch in each.slots]
            assert all(tensor.is_pinned() for tensor in tensors)


# --- A long mixture -------------------------------------------------------------------------------


def test_a_late_step_is_found_without_reading_those_before(paths, tmp_path):
    """A million steps of one row each, the last ones in a record batch of their own."""
    steps = np.arange(1_000_000, dtype=np.int32)
    table = pa.table({
        "step": steps, "slot": np.zeros_like(steps), "row": steps % 90,
        "task": pa.DictionaryArray.from_arrays(np.zeros(len(steps), np.int16), ["rte"]),
    })  # fmt: skip
    with pa.ipc.new_file(str(tmp_path / FILE), table.schema) as writer:
        writer.write_table(table, max_chunksize=999_990)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    loader = Loader(tmp_path, paths)
    steps_read = [loader.read(number) for number in (0, 999_989, 999_990, 999_999)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(loader) == len(steps)
    assert [slots_of(step)[0][2] for step in steps_read] == [[s.number % 90] for s in steps_read]
    assert peak < 500_000 and pa.total_allocated_bytes() - before < 500_000 < steps.nbytes
