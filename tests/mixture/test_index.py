"""The mixture: every row in its turn, slots under budget, and the same table for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.mixture.index import FILE, Sizes, build, describe, draw
from muppet_dag.recipes import MixtureSection

BUDGET = 64


@st.composite
def tasks(draw_from: st.DrawFn) -> dict[str, Sizes]:
    """One to four tasks of one to forty rows; no row is larger than ``BUDGET``."""
    made = {}
    for name in "abcd"[: draw_from(st.integers(1, 4))]:
        rows = draw_from(
            st.lists(
                st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 16)),
                min_size=1,
                max_size=40,
            )
        )
        width, sequences, target = np.array(rows, np.uint16).T
        made[name] = Sizes(width, sequences, target, width.astype(np.int32) * sequences + target)
    return made


@st.composite
def specs(draw_from: st.DrawFn) -> MixtureSection:
    counts = {
        "slot_tokens": (BUDGET, 4 * BUDGET),
        "slot_rows": (1, 9),
        "slots_per_step": (1, 7),
        "bucket_slots": (1, 5),
        "epochs": (1, 3),
    }
    return MixtureSection(**{k: draw_from(st.integers(*v)) for k, v in counts.items()})


def texts(count: int, width: int = 8) -> Sizes:
    """Single texts, all as long."""
    one = np.ones(count, np.uint16)
    return Sizes(one * width, one, one * 0, np.full(count, width, np.int32))


def spec(**more) -> MixtureSection:
    given = {"slot_tokens": BUDGET, "slot_rows": 4, "slots_per_step": 5, "epochs": 1}
    return MixtureSection(**{**given, **more})


def slots(table: pa.Table) -> list[tuple[int, int, set[str], list[int]]]:
    """(step, slot, tasks, rows), in the order of use."""
    out: list[tuple[int, int, set[str], list[int]]] = []
    for row in table.to_pylist():
        if not out or out[-1][:2] != (row["step"], row["slot"]):
            out.append((row["step"], row["slot"], set(), []))
        out[-1][2].add(row["task"])
        out[-1][3].append(row["row"])
    return out


@given(tasks(), specs(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_epoch_holds_every_row_exactly_once(sizes, said, seed):
    table = draw(sizes, said, seed)
    used = sorted(zip(table["task"].to_pylist(), table["row"].to_pylist(), strict=True))
    once = [(name, row) for name in sizes for row in range(len(sizes[name]))]
    assert used == sorted(once * said.epochs)
    first = table.slice(0, len(once))
    assert len(set(zip(first["task"].to_pylist(), first["row"].to_pylist(), strict=True))) == len(
        once
    )


@given(tasks(), specs(), st.integers(0, 2**40 - 1))
@settings(max_examples=40, deadline=None)
def test_a_row_that_is_kept_out_never_appears_and_all_others_do_exactly_once(sizes, said, bits):
    keep = {
        name: np.array([bits >> i & 1 for i in range(len(s))], bool) for name, s in sizes.items()
    }
    kept = {name: replace(s, keep=keep[name]) for name, s in sizes.items()}
    once = [(name, row) for name in sizes for row in np.flatnonzero(keep[name]).tolist()]
    if not once:
        with pytest.raises(MuppetError, match="no row is left"):
            draw(kept, said, 1)
        return
    table = draw(kept, said, 1)
    used = sorted(zip(table["task"].to_pylist(), table["row"].to_pylist(), strict=True))
    assert used == sorted(once * said.epochs)
    facts = describe(table, kept)
    assert facts["epochs"] == said.epochs
    assert facts["rows_by_task"] == {n: int(k.sum()) * said.epochs for n, k in keep.items()}


@given(tasks(), specs())
@settings(max_examples=25, deadline=None)
def test_keeping_every_row_changes_nothing(sizes, said):
    kept = {name: replace(s, keep=np.ones(len(s), bool)) for name, s in sizes.items()}
    assert draw(kept, said, 1).equals(draw(sizes, said, 1))


def test_a_row_larger_than_a_slot_may_be_kept_out():
    wide = texts(10)
    wide.width[7] = BUDGET + 1
    keep = np.arange(10) != 7
    assert draw({"a": replace(wide, keep=keep)}, spec(), 1).num_rows == 9


@given(tasks(), specs())
@settings(max_examples=40, deadline=None)
def test_no_slot_exceeds_its_budget_of_padded_tokens_or_rows(sizes, said):
    for _, _, names, rows in slots(draw(sizes, said, 1)):
        mine = sizes[next(iter(names))]
        width, target = (int(each[rows].max()) for each in (mine.width, mine.target))
        padded = int(mine.sequences[rows].sum()) * width + len(rows) * target
        assert padded <= said.slot_tokens
        assert len(rows) <= said.slot_rows


@given(tasks(), specs())
@settings(max_examples=40, deadline=None)
def test_a_slot_holds_one_task_and_all_steps_but_the_last_are_full(sizes, said):
    made = slots(draw(sizes, said, 1))
    assert all(len(names) == 1 for _, _, names, _ in made)
    places = [(step, slot) for step, slot, _, _ in made]
    assert places == [divmod(i, said.slots_per_step) for i in range(len(made))]


@given(tasks(), specs(), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_a_longer_budget_starts_with_the_same_steps(sizes, said, steps, more):
    short, long = (replace(said, epochs=None, steps=n) for n in (steps, steps + more))
    table = draw(sizes, short, 1)
    assert table["step"][-1].as_py() == steps - 1
    assert len(slots(table)) == steps * said.slots_per_step
    assert draw(sizes, long, 1).slice(0, table.num_rows).equals(table)


@given(tasks(), specs())
@settings(max_examples=25, deadline=None)
def test_facts_agree_with_the_table(sizes, said):
    table = draw(sizes, said, 1)
    facts, made = describe(table, sizes), slots(table)
    assert (facts["slots"], facts["rows"]) == (len(made), table.num_rows)
    assert facts["steps"] == made[-1][0] + 1 and facts["epochs"] == said.epochs
    assert facts["rows_by_task"] == {n: len(s) * said.epochs for n, s in sizes.items()}
    assert facts["tokens"] == sum(int(s.tokens.sum()) for s in sizes.values()) * said.epochs
    assert facts["tokens"] <= facts["padded_tokens"] <= len(made) * said.slot_tokens


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_order(tmp_path):
    sizes = {"a": texts(50), "b": texts(30)}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        build(sizes, spec(), seed, tmp_path / name)
    one, again, other = ((tmp_path / n / FILE).read_bytes() for n in ("one", "again", "other"))
    assert one == again != other


def test_the_order_in_which_tasks_are_given_does_not_count(tmp_path):
    sizes = {"a": texts(50), "b": texts(30)}
    for name, given_in in (("one", sizes), ("turned", dict(reversed(sizes.items())))):
        (tmp_path / name).mkdir()
        build(given_in, spec(), 1, tmp_path / name)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "turned" / FILE).read_bytes()


def test_epochs_differ_in_order():
    rows = draw({"a": texts(60)}, spec(epochs=2), 1)["row"].to_pylist()
    assert rows[:60] != rows[60:] and sorted(rows[:60]) == sorted(rows[60:])


def test_another_task_does_not_change_which_rows_share_a_slot():
    alone = draw({"a": texts(40)}, spec(), 1)
    beside = draw({"a": texts(40), "b": texts(40)}, spec(), 1)
    shared = [{frozenset(r) for *_, n, r in slots(t) if n == {"a"}} for t in (alone, beside)]
    assert shared[0] == shared[1]


def test_tasks_come_in_proportion_to_their_size():
    sizes = {"large": texts(6000), "small": texts(600)}
    half = draw(sizes, spec(slots_per_step=10, epochs=None, steps=80), 1)
    share = half["task"].to_pylist().count("small") / half.num_rows
    assert share == pytest.approx(1 / 11, abs=0.03)


def test_steps_mix_tasks():
    sizes = {name: texts(200) for name in "abcd"}
    made = slots(draw(sizes, spec(slots_per_step=8), 1))
    by_step: dict[int, set[str]] = {}
    for step, _, names, _ in made:
        by_step.setdefault(step, set()).update(names)
    assert sum(len(names) for names in by_step.values()) / len(by_step) > 3


def test_rows_of_like_length_share_a_slot():
    width = np.arange(1, 61, dtype=np.uint16)
    one = np.ones(60, np.uint16)
    sizes = {"a": Sizes(width, one, one * 0, width.astype(np.int32))}
    facts = describe(draw(sizes, spec(slot_tokens=240, bucket_slots=60), 1), sizes)
    assert facts["tokens"] / facts["padded_tokens"] > 0.9


def test_a_row_larger_than_a_slot_is_refused_with_its_task_and_numbers():
    wide = texts(10)
    wide.width[7] = BUDGET + 1
    with pytest.raises(BadConfig, match=rf"'b': token row 7 takes {BUDGET + 1} .* {BUDGET}\b"):
        draw({"a": texts(10), "b": wide}, spec(), 1)


def test_a_row_of_many_candidates_counts_with_all_of_them():
    many = texts(3, width=20)
    many.sequences[1] = 4
    with pytest.raises(BadConfig, match="token row 1 takes 80 tokens"):
        draw({"a": many}, spec(), 1)


def test_a_mixture_of_no_task_is_refused(tmp_path):
    with pytest.raises(MuppetError, match="at least one task"):
        build({}, spec(), 1, tmp_path)


def test_a_passage_that_is_kept_out_loses_all_its_windows(bench):
    made = bench.tokens("squad")
    tokens = pa.ipc.open_file(pa.memory_map(str(made.path / "train.arrow"))).read_all()
    example = tokens["example"].to_numpy()
    windows = np.bincount(example)
    assert windows.max() > 1
    without = np.array([0, int(windows.argmax())])
    keep = Sizes.read(made.path, without=without).keep
    assert not keep[np.isin(example, without)].any() and keep[~np.isin(example, without)].all()


def test_sizes_are_read_from_the_token_file(bench):
    made = bench.tokens("arc_easy")
    sizes = Sizes.read(made.path)
    assert len(sizes) == made.facts["splits"]["train"]["rows"]
    assert int(sizes.tokens.sum()) == made.facts["splits"]["train"]["tokens"]
    assert set(sizes.sequences.tolist()) <= {3, 4, 5}
