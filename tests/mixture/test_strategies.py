"""Strategies say how much of each task comes, batchings which slots share a step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from drawn import NAMES, counts, slots, spec, specs, steps, tasks, texts
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag.errors import BadConfig
from muppet_dag.mixture.index import VERSION, draw
from muppet_dag.mixture.slots import Stream
from muppet_dag.mixture.strategies import check_names, shares
from muppet_dag.recipes import MixtureSection

some = settings(max_examples=60, deadline=None)


def rates(pool: list[int], **keys: object) -> list[float]:
    return shares(NAMES[: len(pool)], np.array(pool), spec(**keys)).tolist()


# --- Shares ---------------------------------------------------------------------------------------


def test_shares_are_those_of_the_formulas():
    pool = [100, 300, 600]
    assert rates(pool) == pytest.approx([0.1, 0.3, 0.6])
    assert rates(pool, strategy="equal") == pytest.approx([1 / 3] * 3)
    assert rates(pool, strategy="proportional", limit=300) == pytest.approx([1 / 7, 3 / 7, 3 / 7])
    weights = {"a": 1, "b": 2.5, "c": 0.5}
    assert rates(pool, strategy="weights", weights=weights) == pytest.approx([0.25, 0.625, 0.125])
    root = np.sqrt([100, 300, 400])
    rate = rates(pool, strategy="temperature", temperature=2, limit=400)
    assert rate == pytest.approx((root / root.sum()).tolist())


def test_temperature_one_is_proportional_and_a_high_one_equal():
    pool = [10, 300, 6000]
    assert rates(pool, strategy="temperature", temperature=1, limit=500) == pytest.approx(
        rates(pool, strategy="proportional", limit=500)
    )
    assert rates(pool, strategy="temperature", temperature=1) == pytest.approx(rates(pool))
    assert rates(pool, strategy="temperature", temperature=1e6) == pytest.approx(
        rates(pool, strategy="equal"), abs=1e-5
    )


@pytest.mark.parametrize("strategy", ["natural", "equal", "weights"])
def test_an_empty_pool_has_no_share(strategy):
    weights = {"weights": dict.fromkeys(NAMES, 1.0)} if strategy == "weights" else {}
    rate = rates([10, 0, 10], strategy=strategy, **weights)
    assert rate == pytest.approx([0.5, 0, 0.5])


@given(tasks(), specs())
@some
def test_every_task_has_its_share_to_one_slot(sizes, section):
    """Of rows, tokens or slots, over any number of epochs: what a slot gives too much comes off."""
    drawn, facts = draw(sizes, section, 1)
    unit, names = section.weight_unit, sorted(sizes)
    unit = "rows" if section.strategy == "natural" else unit  # every row once, in any unit
    capped = {n: sizes[n].capped(section.cap, f"{VERSION}/1", n) for n in names}
    pool = {n: Stream(0, n, capped[n], section, f"{VERSION}/1").pool for n in names}
    goal = (
        shares(names, np.array(list(pool.values())), section) * sum(pool.values()) * section.epochs
    )
    taken, largest = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for slot in slots(drawn):
        tokens = sizes[slot.task].tokens[slot.rows].sum()
        amount = {"rows": len(slot.rows), "tokens": tokens, "slots": 1}[unit]
        taken[slot.task] += int(amount)
        largest[slot.task] = max(largest[slot.task], int(amount))
    for name, amount in zip(names, goal, strict=True):
        assert amount - 0.51 <= taken[name] <= amount + 0.51 + max(0, largest[name] - 1)
    assert facts["rows"] == drawn.num_rows


@pytest.mark.parametrize("unit", ["rows", "tokens"])
def test_a_part_of_a_round_has_the_shares_of_the_whole_to_sampling_error(unit):
    sizes = {"a": texts(6000, width=4), "b": texts(2000, width=8), "c": texts(500, width=16)}
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    section = spec(strategy="weights", weights=weights, weight_unit=unit, epochs=None, steps=120)
    drawn_slots = slots(draw(sizes, replace(section, slots_per_step=10), 1)[0])
    amount = dict.fromkeys(sizes, 0)
    for slot in drawn_slots:
        of = sizes[slot.task]
        amount[slot.task] += of.pool(unit) / len(of) * len(slot.rows)
    for name, weight in weights.items():
        assert amount[name] / sum(amount.values()) == pytest.approx(weight / 4, abs=0.06)


@given(tasks(), specs(weight_unit="slots", strategy="equal"))
@some
def test_alike_by_slots_every_task_has_as_many_slots_after_any_number_of_epochs(sizes, section):
    """An update averages over slots, so every task has as much of the gradient."""
    numbers = Counter(slot.task for slot in slots(draw(sizes, section, 1)[0]))
    assert len(set(numbers.values())) == 1 and set(numbers) == set(sizes)


@pytest.mark.parametrize("batching", ["heterogeneous", "homogeneous"])
def test_alike_by_slots_also_in_the_middle_of_an_epoch(batching):
    """Rows of 4 to 64 tokens: by rows the task of the longest has 7 slots of 10."""
    sizes = {n: texts(900, width=w) for n, w in zip(NAMES, (4, 8, 16, 64), strict=True)}
    section = spec(strategy="equal", slot_tokens=64, slot_rows=64, batching=batching,
                   epochs=None, steps=200, slots_per_step=4)  # fmt: skip
    by_rows = draw(sizes, section, 1)[1]
    assert by_rows["slot_shares"]["d"] > 0.6
    drawn, facts = draw(sizes, replace(section, weight_unit="slots"), 1)
    assert facts["slot_shares"] == pytest.approx(dict.fromkeys(NAMES, 0.25), abs=0.06)
    assert facts["shares"]["a"] > 8 * facts["shares"]["d"]
    numbers = Counter(slot.task for slot in slots(drawn))
    assert facts["slot_shares"] == {n: round(numbers[n] / facts["slots"], 6) for n in NAMES}


@pytest.mark.parametrize("strategy", ["proportional", "temperature", "weights"])
def test_shares_by_slots_are_those_of_the_formulas(strategy):
    sizes = {"a": texts(640, width=4), "b": texts(640, width=16)}  # 40 and 160 slots
    keys = {"proportional": {"limit": 80}, "temperature": {"temperature": 2.0},
            "weights": {"weights": {"a": 1.0, "b": 3.0}}}[strategy]  # fmt: skip
    section = spec(strategy=strategy, weight_unit="slots", slot_tokens=64, slot_rows=16, **keys)
    expected = {"proportional": 2 / 3, "temperature": 2 / 3, "weights": 3 / 4}[strategy]
    assert draw(sizes, section, 1)[1]["slot_shares"]["b"] == pytest.approx(expected, abs=0.01)


def test_tasks_come_in_proportion_to_their_size():
    sizes = {"large": texts(6000), "small": texts(600)}
    half = draw(sizes, spec(slots_per_step=10, epochs=None, steps=80), 1)[0]
    share = half["task"].to_pylist().count("small") / half.num_rows
    assert share == pytest.approx(1 / 11, abs=0.03)


def test_a_small_task_is_drawn_over_and_over_and_a_large_one_only_in_part():
    sizes = {"large": texts(5000), "small": texts(7)}
    drawn, facts = draw(sizes, spec(strategy="equal"), 1)
    *_, used = counts(sizes, drawn)
    assert set(used["small"]) <= {357, 358, 359} and set(used["large"]) == {0, 1}
    assert facts["passes"]["small"] == pytest.approx(2503.5 / 7, abs=0.6)
    assert facts["shares"]["small"] == pytest.approx(0.5, abs=0.001)


def test_a_task_whose_share_is_less_than_a_row_is_not_drawn_until_it_is_one():
    sizes = {"a": texts(400), "b": texts(50)}
    section = spec(strategy="weights", weights={"a": 4500.0, "b": 1.0})
    assert draw(sizes, section, 1)[1]["rows_by_task"]["b"] == 0
    assert draw(sizes, replace(section, epochs=10), 1)[1]["rows_by_task"]["b"] > 0


# --- Batchings ------------------------------------------------------------------------------------


def test_heterogeneous_steps_mix_tasks():
    sizes = {name: texts(200) for name in "abcd"}
    drawn_slots = steps(draw(sizes, spec(slots_per_step=8), 1)[0])
    assert np.mean([len({slot.task for slot in step}) for step in drawn_slots]) > 3


@given(tasks(), specs(batching="homogeneous"))
@some
def test_homogeneous_steps_hold_one_task_and_few_are_short(sizes, section):
    drawn_slots = steps(draw(sizes, section, 1)[0])
    assert all(len({slot.task for slot in step}) == 1 for step in drawn_slots)
    for name in sizes:
        short = [s for s in drawn_slots if s[0].task == name and len(s) < section.slots_per_step]
        assert len(short) <= section.epochs


def test_homogeneous_steps_come_in_random_order():
    sizes = {name: texts(400) for name in "abcd"}
    order = [s[0].task for s in steps(draw(sizes, spec(batching="homogeneous"), 1)[0])]
    changes = sum(a != b for a, b in pairwise(order))
    assert len(order) == 80 and 45 <= changes <= 75  # three in four at random, three if sorted


@given(tasks(), specs(batching="sequential"), st.integers(0, 5))
@some
def test_sequential_goes_through_one_task_after_the_other_in_every_epoch(sizes, section, seed):
    one = draw(sizes, replace(section, epochs=1), seed)[0]
    order = list(dict.fromkeys(one["task"].to_pylist()))
    tasks_of_steps = [step[0].task for step in steps(one)]
    assert tasks_of_steps == sorted(tasks_of_steps, key=order.index)
    assert all(len({slot.task for slot in step}) == 1 for step in steps(one))
    whole = draw(sizes, section, seed)[0]
    changes = sum(a != b for a, b in pairwise(whole["task"].to_pylist()))
    assert changes < section.epochs * len(sizes)


def test_the_order_of_tasks_comes_from_the_seed():
    sizes = {name: texts(8) for name in "abcd"}
    section = spec(batching="sequential")
    orders = {tuple(draw(sizes, section, seed)[0]["task"].to_pylist()) for seed in range(12)}
    assert len(orders) > 4


# --- Names ----------------------------------------------------------------------------------------


def test_weights_must_name_every_task_that_is_mixed():
    section = spec(strategy="weights", weights={"a": 1.0})
    sizes = {"a": texts(9), "b": texts(9), "c": texts(9)}
    with pytest.raises(BadConfig, match=r"does not name b, c.*Give a weight, or take the task out"):
        draw(sizes, section, 1)
    with pytest.raises(BadConfig, match="does not name b, c"):
        check_names(section, sizes)


@pytest.mark.parametrize(
    ("key", "section"),
    [("weights", {"strategy": "weights", "weights": {"a": 1.0, "b": 1.0}}),
     ("caps", {"caps": {"a": 5, "b": 5}})],
)  # fmt: skip
def test_weights_and_caps_name_no_task_that_is_not_mixed(key, section):
    with pytest.raises(BadConfig, match=rf"mixture\.{key} names b, not among"):
        check_names(spec(**section), ["a"])
    check_names(spec(**section), ["a", "b"])


def test_a_weight_of_a_task_that_failed_is_no_error():
    section: MixtureSection = spec(strategy="weights", weights={"a": 1.0, "failed": 1.0})
    assert draw({"a": texts(9)}, section, 1)[1]["rows"] == 9
