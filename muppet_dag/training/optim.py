"""What turns gradients into weights: clipping, the optimizer, its schedule, averaged weights.

A parameter without a gradient (a head that a step did not use) is left alone by all of them:
neither momentum nor weight decay moves it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from muppet_dag.recipes import TrainingSection


def make_optimizer(model: nn.Module, training: TrainingSection) -> torch.optim.Optimizer:
    """AdamW, Adamax (Kingma and Ba 2014, 7.1; MT-DNN's) or SGD with momentum.

    Weight decay is apart from the gradient in all of them (Loshchilov and Hutter 2017): before an
    update, weight *= 1 - rate * decay. Biases and normalisation weights do not decay. Sharded
    weights have groups of their own, since one kernel cannot take both kinds.
    """
    groups = [
        {"params": parameters, "weight_decay": training.weight_decay if decays else 0.0}
        for decays in (True, False)
        for sharded in (True, False)
        if (parameters := [
            p for p in model.parameters()
            if (p.ndim > 1) == decays and isinstance(p, DTensor) == sharded
        ])
    ]  # fmt: skip
    rate, betas, eps = training.learning_rate, training.betas, training.eps
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=eps, fused=True)
    # What torch calls the weight decay of the others is a term of the gradient.
    apart = [{**group, "decay": group["weight_decay"], "weight_decay": 0.0} for group in groups]
    optimizer = (
        torch.optim.SGD(apart, lr=rate, momentum=training.momentum)
        if training.optimizer == "sgd"
        else torch.optim.Adamax(apart, lr=rate, betas=betas, eps=eps)
    )
    optimizer.register_step_pre_hook(_decay)
    return optimizer


@torch.no_grad()
def _decay(optimizer: torch.optim.Optimizer, *_: object) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["decay"] else ():
            if parameter.grad is not None:
                parameter.mul_(1 - group["lr"] * group["decay"])


def make_schedule(
    optimizer: torch.optim.Optimizer, training: TrainingSection, steps: int, start: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Warm-up, then decay to zero; a pure function of the step, so resuming needs no state.

    Warming up leaves at least one step at the full rate, however few there are.
    """
    import transformers

    for group in optimizer.param_groups:
        group["initial_lr"] = training.learning_rate
    warmup = min(math.ceil(training.warmup * steps), steps - 1)
    last = start - 1
    if training.schedule == "polynomial":
        return transformers.get_polynomial_decay_schedule_with_warmup(
            optimizer, warmup, steps, lr_end=0.0, power=1.0, last_epoch=last
        )
    if training.schedule == "linear":
        return transformers.get_linear_schedule_with_warmup(optimizer, warmup, steps, last)
    return transformers.get_constant_schedule_with_warmup(optimizer, warmup, last)


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale the gradients so that their norm, over all of them, is at most ``limit`` (0: as is).

    Gradients of replicated parameters must have been summed over the workers. Returns the norm
    before clipping, a number on the device, the same on all workers; reading it waits for the GPU.
    """
    used = [p for p in parameters if p.grad is not None]
    parts = [[p for p in used if isinstance(p.grad, DTensor) == sharded]
             for sharded in (False, True)]  # fmt: skip
    norms = [get_total_norm([p.grad for p in part]) for part in parts if part]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    norm = torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())
    for part in parts if limit else ():
        clip_grads_with_norm_(part, limit, norm)
    return norm


class Ema:
    """An exponential moving average of the weights, started from those at the beginning:
    average = decay * average + (1 - decay) * weight after every update."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self._weights = decay, dict(model.named_parameters())
        #: The averages by parameter name; sharded as the parameters are.
        self.averages = {name: p.detach().clone() for name, p in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights in; call it after every step of the optimizer."""
        for name, weight in self._weights.items():
            self.averages[name].lerp_(weight, 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model's weights are the averages (outside ``sharding.whole``, not in it)."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.detach().clone()
            weight.copy_(self.averages[name])
            self.averages[name].copy_(kept)
