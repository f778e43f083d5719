"""Fully sharded training: weights, gradients and optimizer state spread over the workers.

The layers of the backbone are gathered one at a time, used and let go (FSDP2, ``fully_shard``), and
every pass reduces its gradients to the shards, so that no worker ever holds all of either. Heads,
and what else lies outside the backbone's body, stay whole on every worker: they are small, and a
worker uses some of them only.

Weights are and stay float32, which the optimizer needs. Autocast makes the bfloat16 copies it
computes with, as it does without sharding, so that both give the same updates; a policy of FSDP's
own would round what is between the layers as well. (The copies live until the backward pass.)

Every worker must run the same passes, and the same number of forwards in each, else one of them
waits for ever: the loader evens out passes, ``shard`` evens out forwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from muppet_dag.model.layout import Text
from muppet_dag.model.multitask import MultiTaskModel
from muppet_dag.recipes import TrainingSection
from muppet_dag.training.group import Group

Slots = Sequence[tuple[str, Mapping[str, Tensor]]]
Losses = list[tuple[Tensor, Tensor]]


def shard(model: MultiTaskModel, group: Group) -> None:
    """Spread the backbone over the workers, in place. Alone, nothing is done.

    From here on ``model.losses`` is the forward pass, and ``backward`` sums the gradients over the
    workers (it does not average them). Any other use needs ``whole``.
    """
    if group.world == 1:
        return
    mesh = init_device_mesh(group.device.type, (group.world,))
    model.losses = _evened(model, model.losses)
    body = set(model.backbone.base_model.parameters())
    for layer in _layers(model.backbone.base_model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=set(model.parameters()) - body)
    register_fsdp_forward_method(model, "losses")
    for module in _sharded(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other
    # The first forward tells FSDP which module is the root; a prediction would begin with a layer.
    model.wake = lambda: None
    register_fsdp_forward_method(model, "wake")
    model.wake()
    model.reshard()


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """All weights on every worker, for predictions: inside, no worker waits for another.

    Every worker must enter and leave. Of a model that is not sharded, nothing changes.
    """
    modules = _sharded(model)
    for module in modules:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
            module.set_reshard_after_forward(module is not model, recurse=False)


def full_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict, every tensor whole and on the CPU; every worker must call it."""
    return {
        name: (value.full_tensor() if isinstance(value, DTensor) else value).to("cpu", copy=True)
        for name, value in model.state_dict().items()
    }


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists: a transformer's layers, in encoder and decoder."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)


def _sharded(model: nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _evened(model: MultiTaskModel, losses: Callable[..., Losses]) -> Callable[..., Losses]:
    """``losses`` with as many forwards in a pass as any worker may need, whatever its slots are:
    what is missing is made up by forwards of one token that count nothing."""
    forwards = 0

    @torch.compiler.disable
    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    def evened(slots: Slots, training: TrainingSection) -> Losses:
        nonlocal forwards
        forwards = 0
        (loss, n), *others = losses(slots, training)
        device, due = loss.device, _forwards(model, training)
        if forwards > due:
            raise RuntimeError(
                f"{forwards} forwards in a pass, where sharding allows {due} at most"
            )
        for _ in range(due - forwards):
            loss = loss + 0 * _spare(model, device)
        return [(loss, n), *others]

    model.backbone.register_forward_pre_hook(count)
    return evened


def _forwards(model: MultiTaskModel, training: TrainingSection) -> int:
    """How many forwards a pass may take: slots that are understood and slots that are generated
    go separately, and rows with noise as well unless they are fused."""
    kinds = {spec.kind == "generation" for spec in model.specs.values()}
    noised = training.regularizer != "none" and not training.fuse_noised
    return min(len(kinds), training.slots_per_pass) * (2 if noised else 1)


def _spare(model: MultiTaskModel, device: torch.device) -> Tensor:
    one = torch.ones(1, dtype=torch.long)
    text = {"input_ids": one, "lengths": one, "second": one, "sequences": one}
    return model.reader.hidden_states(Text.of([text], device)).sum()
