"""Flat and padded are the same sequences, whatever their lengths."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from muppet_dag.model.layout import Layout, Text, padded

LENGTHS = st.lists(st.integers(1, 7), min_size=1, max_size=9)
CPU = torch.device("cpu")


def values(lengths: list[int], *shape: int) -> torch.Tensor:
    return torch.randn(sum(lengths), *shape, dtype=torch.float64, requires_grad=True)


@given(LENGTHS, st.sampled_from([(), (3,), (2, 3)]))
def test_padded_rows_are_the_sequences_and_then_filler(lengths, shape):
    flat = values(lengths, *shape)
    rows = Layout.of(torch.tensor(lengths), flat).pad(flat, -5.0)
    assert rows.shape == (len(lengths), max(lengths), *shape)
    for row, part in zip(rows, flat.split(lengths), strict=True):
        assert torch.equal(row[: len(part)], part)
        assert (row[len(part) :] == -5.0).all()


@given(LENGTHS, st.integers(0, 3))
def test_flat_undoes_pad_also_where_rows_are_wider(lengths, more):
    flat = values(lengths, 3)
    layout = Layout.of(torch.tensor(lengths), flat)
    rows = torch.nn.functional.pad(layout.pad(flat, 0.0), (0, 0, 0, more), value=9.0)
    assert torch.equal(layout.flat(rows), flat)


@given(LENGTHS)
def test_gradients_pass_both_ways(lengths):
    flat = values(lengths, 2)
    layout = Layout.of(torch.tensor(lengths), flat)
    weight = torch.randn(sum(lengths), 2, dtype=torch.float64)
    (layout.flat(layout.pad(flat, 0.0) * 2) * weight).sum().backward()
    torch.testing.assert_close(flat.grad, 2 * weight)


@given(LENGTHS)
def test_mask_starts_and_offsets_agree_with_the_lengths(lengths):
    layout = Layout.of(torch.tensor(lengths), values(lengths))
    assert layout.mask.sum(1).tolist() == lengths
    assert layout.offsets.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert layout.offsets.dtype == torch.int32
    assert layout.starts.tolist() == layout.offsets[:-1].tolist()
    assert layout.position.tolist() == [i for length in lengths for i in range(length)]


@given(LENGTHS, LENGTHS, st.data())
def test_slots_are_read_one_after_the_other(one, other, data):
    slots = []
    for lengths in (one, other):
        second = [data.draw(st.integers(0, length)) for length in lengths]
        ids = torch.randint(4, 30, (sum(lengths),))
        slots.append({"input_ids": ids, "lengths": torch.tensor(lengths),
                      "second": torch.tensor(second)})  # fmt: skip
    batch = Text.of(slots, CPU).padded(1)
    rows = [row for slot in slots for row in slot["input_ids"].split(slot["lengths"].tolist())]
    seconds = [number for slot in slots for number in slot["second"].tolist()]
    width = max(one + other)
    for i, (row, second) in enumerate(zip(rows, seconds, strict=True)):
        rest = width - len(row)
        assert batch["input_ids"][i].tolist() == row.tolist() + [1] * rest
        assert batch["attention_mask"][i].tolist() == [1] * len(row) + [0] * rest
        types = [int(at >= second) for at in range(len(row))]
        assert batch["token_type_ids"][i].tolist() == types + [0] * rest


def test_one_slot_is_padded_as_transformers_takes_it():
    inputs = {"input_ids": torch.tensor([5, 6, 7, 8]), "lengths": torch.tensor([3, 1]),
              "second": torch.tensor([2, 1])}  # fmt: skip
    batch = {name: each.tolist() for name, each in padded(inputs, 0).items()}
    assert batch == {
        "input_ids": [[5, 6, 7], [8, 0, 0]], "attention_mask": [[1, 1, 1], [1, 0, 0]],
        "token_type_ids": [[0, 0, 1], [0, 0, 0]],
    }  # fmt: skip
