"""What workers say to each other, seen from one of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from muppet_dag.training.group import Group

PAIR = Group(0, 2, torch.device("cpu"))


@pytest.fixture
def sent(monkeypatch) -> list[torch.Tensor]:
    """What this worker gives to be summed. The other one gives nothing."""
    out: list[torch.Tensor] = []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: out.append(values.clone()))
    return out


def parameter(size: int, dtype: torch.dtype = torch.float32, *, used: bool = True) -> nn.Parameter:
    made = nn.Parameter(torch.zeros(size, dtype=dtype))
    made.grad = torch.ones_like(made) if used else None
    return made


def test_gradients_are_summed_some_25_mb_at_a_time_and_unused_ones_not_at_all(sent):
    PAIR.sum_gradients([parameter(2**20) for _ in range(10)] + [parameter(3, used=False)])
    flags, *sums = sent
    assert flags.tolist() == [1.0] * 10 + [0.0]
    assert [values.nbytes for values in sums] == [24 * 2**20, 16 * 2**20]


def test_gradients_of_two_types_are_not_mixed(sent):
    half = torch.bfloat16
    parameters = [parameter(3), parameter(2), parameter(4, half)]
    PAIR.sum_gradients(parameters)
    assert [(len(values), values.dtype) for values in sent[1:]] == [(5, torch.float32), (4, half)]
    assert [each.grad.tolist() for each in parameters] == [[1.0] * 3, [1.0] * 2, [1.0] * 4]
