"""What the tests of the mixture draw from, and how they look at what was drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, get_args

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from muppet_dag.mixture.sizes import Sizes
from muppet_dag.recipes import MixtureSection
from muppet_dag.recipes.sections import Batching, Strategy

#: No row of a drawn task is larger than this.
BUDGET = 64
NAMES = "abcd"


class Slot(NamedTuple):
    """A slot as the table has it."""

    step: int
    number: int
    task: str
    rows: list[int]


@st.composite
def tasks(draw: st.DrawFn, most: int = 40) -> dict[str, Sizes]:
    """One to four tasks of a few rows."""
    row = st.tuples(st.integers(1, 12), st.integers(1, 4), st.integers(0, 16))
    sizes = {}
    for name in NAMES[: draw(st.integers(1, 4))]:
        columns = np.array(draw(st.lists(row, min_size=1, max_size=most)), np.uint16).T
        width, sequences, target = columns
        sizes[name] = Sizes(width, sequences, target, width.astype(np.int32) * sequences + target)
    return sizes


@st.composite
def specs(draw: st.DrawFn, **fixed: object) -> MixtureSection:
    """Any strategy, batching and size of slots, for some epochs."""
    counts = {
        "slot_tokens": (BUDGET, 4 * BUDGET), "slot_rows": (1, 9), "slots_per_step": (1, 7),
        "bucket_slots": (1, 5), "epochs": (1, 3),
    }  # fmt: skip
    fields = {
        **{key: draw(st.integers(*between)) for key, between in counts.items()},
        "strategy": draw(st.sampled_from(get_args(Strategy))),
        "batching": draw(st.sampled_from(get_args(Batching))),
        "weight_unit": draw(st.sampled_from(["rows", "tokens", "slots"])),
        "cap": draw(st.none() | st.integers(1, 30)),
        **fixed,
    }
    keys = {
        "proportional": {"limit": draw(st.integers(1, 50))},
        "temperature": {
            "limit": draw(st.none() | st.integers(1, 50)),
            "temperature": draw(st.floats(0.5, 10)),
        },
        "weights": {"weights": {name: draw(st.floats(0.01, 10)) for name in NAMES}},
    }
    return MixtureSection(**fields, **keys.get(fields["strategy"], {}))


def texts(count: int, width: int = 8) -> Sizes:
    """Single texts, all as long."""
    one = np.ones(count, np.uint16)
    return Sizes(one * width, one, one * 0, np.full(count, width, np.int32))


def spec(**more: object) -> MixtureSection:
    fields = {"slot_tokens": BUDGET, "slot_rows": 4, "slots_per_step": 5, "epochs": 1}
    return MixtureSection(**{**fields, **more})


def slots(table: pa.RecordBatch) -> list[Slot]:
    """The slots in the order of use; every one holds one task and lies in one piece."""
    out: list[Slot] = []
    for row in table.to_pylist():
        if not out or out[-1][:2] != (row["step"], row["slot"]):
            out.append(Slot(row["step"], row["slot"], row["task"], []))
        assert out[-1].task == row["task"]
        out[-1].rows.append(row["row"])
    assert len({slot[:2] for slot in out}) == len(out)
    return out


def steps(table: pa.RecordBatch) -> list[list[Slot]]:
    """The slots of each step."""
    all_slots = slots(table)
    out: list[list[Slot]] = [[] for _ in range(all_slots[-1].step + 1)]
    for slot in all_slots:
        out[slot.step].append(slot)
    return out


def counts(sizes: Mapping[str, Sizes], table: pa.RecordBatch) -> Iterator[dict[str, np.ndarray]]:
    """After each step, how often every row of every task was used."""
    used = {name: np.zeros(len(size), int) for name, size in sizes.items()}
    for step in steps(table):
        for slot in step:
            np.add.at(used[slot.task], slot.rows, 1)
        yield used
