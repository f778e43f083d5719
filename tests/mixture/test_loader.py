"""The loader hands out the mixture's slots, to any number of workers, from any step."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from muppet_dag.errors import MuppetError
from muppet_dag.mixture.batch import Batch, Tokens, collate
from muppet_dag.mixture.index import FILE, Sizes, build
from muppet_dag.mixture.loader import Loader, Step
from muppet_dag.recipes import MixtureSection

NAMES = ("rte", "arc_easy", "squad", "aeslc")
PAD = 0


@pytest.fixture(scope="module")
def paths(bench) -> dict[str, Path]:
    return {name: bench.tokens(name, "tiny-bart").path for name in NAMES}


@pytest.fixture(scope="module")
def mixture(paths, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    said = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=6, epochs=1)
    build({name: Sizes.read(path) for name, path in paths.items()}, said, 1, folder)
    return folder


def rows_of(folder: Path) -> list[dict]:
    return pa.ipc.open_file(pa.memory_map(str(folder / "train.arrow"))).read_all().to_pylist()


def same(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch)]
    return all(np.array_equal(a, b, equal_nan=isinstance(a, np.ndarray) and a.dtype.kind == "f")
               for a, b in pairs)  # fmt: skip


def said(step: Step) -> list[tuple[int, str, list[int]]]:
    return [(slot, batch.task, batch.rows.tolist()) for slot, batch in step.slots]


def test_all_steps_come_in_order_with_the_rows_of_the_table(mixture, paths):
    table = pa.ipc.open_file(pa.memory_map(str(mixture / FILE))).read_all().to_pylist()
    steps = list(Loader(mixture, paths, pad_id=PAD))
    assert [step.number for step in steps] == list(range(table[-1]["step"] + 1))
    used = [
        {"step": step.number, "slot": slot, "task": batch.task, "row": row}
        for step in steps
        for slot, batch in step.slots
        for row in batch.rows.tolist()
    ]
    assert used == table


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_workers_share_out_the_slots_of_every_step(mixture, paths, world):
    whole = list(Loader(mixture, paths, pad_id=PAD))
    ranks = [list(Loader(mixture, paths, pad_id=PAD, rank=r, world=world)) for r in range(world)]
    for step, *parts in zip(whole, *ranks, strict=True):
        assert sorted(slot for part in parts for slot in said(part)) == said(step)
        assert {part.total_slots for part in parts} == {len(step.slots)}
        counts = [len(part.slots) for part in parts]
        assert max(counts) - min(counts) <= 1


def test_a_worker_may_have_nothing_to_do_in_a_step(mixture, paths):
    step = Loader(mixture, paths, pad_id=PAD, rank=7, world=8).read(0)
    assert step.slots == [] and step.total_slots == 6


@pytest.mark.parametrize("start", [1, 5])
def test_starting_at_a_step_is_the_same_as_skipping_to_it(mixture, paths, start):
    whole = list(Loader(mixture, paths, pad_id=PAD))[start:]
    later = list(Loader(mixture, paths, pad_id=PAD, start=start))
    for one, other in zip(whole, later, strict=True):
        assert (one.number, said(one)) == (other.number, said(other))
        assert all(same(a, b) for (_, a), (_, b) in zip(one.slots, other.slots, strict=True))


def test_starting_at_the_end_gives_nothing(mixture, paths):
    loader = Loader(mixture, paths, pad_id=PAD)
    assert list(Loader(mixture, paths, pad_id=PAD, start=len(loader))) == []


def test_a_task_without_tokens_is_named(mixture, paths):
    some = {name: path for name, path in paths.items() if name != "squad"}
    with pytest.raises(MuppetError, match="no tokens for squad"):
        Loader(mixture, some, pad_id=PAD)


def test_leaving_the_loop_early_ends_the_reading_ahead(mixture, paths):
    for step in Loader(mixture, paths, pad_id=PAD):
        assert step.number == 0
        break


# --- Padding --------------------------------------------------------------------------------------

CHOSEN = [3, 0, 7, 11]


@pytest.fixture(params=NAMES)
def batch(request, paths) -> tuple[Batch, list[dict]]:
    path = paths[request.param]
    rows = rows_of(path)
    return collate(request.param, Tokens(path, "train"), CHOSEN, 9), [rows[i] for i in CHOSEN]


def test_sequences_are_padded_to_the_longest_and_masked(batch):
    made, rows = batch
    lengths = [length for row in rows for length in row["lengths"]]
    assert made.input_ids.shape == made.attention_mask.shape == (len(lengths), max(lengths))
    assert made.attention_mask.sum(1).tolist() == lengths
    assert made.sequences.tolist() == [len(row["lengths"]) for row in rows]
    flat = [i for row in rows for i in row["input_ids"]]
    assert made.input_ids[made.attention_mask == 1].tolist() == flat
    assert (made.input_ids[made.attention_mask == 0] == 9).all()


def test_token_types_mark_the_second_part_and_never_padding(batch):
    made, rows = batch
    seconds = [second for row in rows for second in row["second"]]
    lengths = made.attention_mask.sum(1).tolist()
    for types, second, length in zip(made.token_type_ids, seconds, lengths, strict=True):
        assert types.tolist() == [int(second <= i < length) for i in range(len(types))]


def test_labels_spans_and_passages_come_with_their_rows(batch):
    made, rows = batch
    assert made.rows.tolist() == CHOSEN
    assert made.examples.tolist() == [row["example"] for row in rows]
    assert made.labels.tolist() == [-1 if row["label"] is None else row["label"] for row in rows]
    assert made.span.tolist() == [[row["start"] or 0, row["end"] or 0] for row in rows]
    assert made.passage.tolist() == [row["passage"] or [0, 0] for row in rows]


def test_targets_are_padded_and_masked(batch):
    made, rows = batch
    targets = [row["target"] or [] for row in rows]
    assert made.target.shape == (len(rows), max(len(each) for each in targets))
    assert made.target_mask.sum(1).tolist() == [len(each) for each in targets]
    assert made.target[made.target_mask == 1].tolist() == [i for each in targets for i in each]
    assert (made.target[made.target_mask == 0] == 9).all()


def test_tokens_are_counted_with_and_without_padding(batch):
    made, rows = batch
    assert made.tokens == sum(row["tokens"] for row in rows)
    longest = max(row["width"] for row in rows)
    padded = sum(row["sequences"] for row in rows) * longest
    assert made.padded_tokens == padded + len(rows) * max(row["target_length"] for row in rows)


def test_scores_of_a_regression_task_come_as_they_are(bench):
    path = bench.tokens("stsb").path
    made = collate("stsb", Tokens(path, "train"), CHOSEN, PAD)
    assert made.scores.tolist() == [rows_of(path)[i]["score"] for i in CHOSEN]
    assert (made.labels == -1).all()


def test_rows_are_found_over_several_record_batches(paths, tmp_path):
    table = pa.ipc.open_file(pa.memory_map(str(paths["arc_easy"] / "train.arrow"))).read_all()
    with pa.ipc.new_file(str(tmp_path / "train.arrow"), table.schema) as writer:
        for part in (table.slice(0, 1), table.slice(1, 40), table.slice(41)):
            writer.write_table(part)
    one, many = Tokens(paths["arc_easy"], "train"), Tokens(tmp_path, "train")
    assert len(one) == len(many)
    for rows in ([90, 0, 41, 40, 1], [40, 2], [0], [95]):
        assert same(collate("x", one, rows, PAD), collate("x", many, rows, PAD))
    assert np.array_equal(one.column("width"), many.column("width"))
