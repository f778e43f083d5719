"""A run's tensors by name, as checkpoints hold them.

``model.<parameter or buffer>``, ``average.<parameter>`` (the moving average of the weights) and
``optimizer.<key>.<parameter>`` (``exp_avg``, ``step``, …). Names, not numbers, so that the same
state is found again whatever way parameters are grouped, sharded or shared out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from muppet_dag.training.optim import Ema

_OPTIMIZER = "optimizer."


def weights(model: nn.Module, ema: Ema | None = None) -> dict[str, Tensor]:
    """Parameters (a shared one once), buffers and averages; not copies: filling them loads them."""
    parameters = dict(model.named_parameters())
    shared = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: t for name, t in model.state_dict().items() if name not in shared}
    tensors = {f"model.{name}": t.detach() for name, t in (parameters | buffers).items()}
    averages = ema.averages if ema else {}
    return tensors | {f"average.{name}": tensor for name, tensor in averages.items()}


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer keeps, only of parameters that it has moved so far."""
    return {
        f"{_OPTIMIZER}{key}.{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def room(
    model: nn.Module, sizes: Mapping[str, tuple[torch.Size, torch.dtype]]
) -> dict[str, Tensor]:
    """Empty tensors for the optimizer state among the stored ``sizes``, of shape and type by name;
    sharded like their parameter, where they have its shape."""
    parameters, tensors = dict(model.named_parameters()), {}
    for stored, (size, dtype) in sizes.items():
        if stored.startswith(_OPTIMIZER):
            _, _, name = stored.split(".", 2)
            same = parameters[name].shape == size
            tensors[stored] = (
                torch.empty_like(parameters[name].detach(), dtype=dtype)
                if same
                else torch.empty(size, dtype=dtype)
            )
    return tensors


def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimizer the state that ``room`` made room for; other parameters have none."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizer.state_dict()["param_groups"]
    numbers = {
        names[id(parameter)]: number
        for group, numbered in zip(optimizer.param_groups, groups, strict=True)
        for parameter, number in zip(group["params"], numbered["params"], strict=True)
    }
    state: dict[int, dict[str, Tensor]] = {}
    for stored, tensor in tensors.items():
        _, key, name = stored.split(".", 2)
        state.setdefault(numbers[name], {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
