"""The process group: what the workers of one job say to each other."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """Rank, number of workers and device of this process. Alone, every call is a no-op."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def start(cls, timeout: timedelta = timedelta(minutes=30)) -> Group:
        """Join the group that torchrun describes in the environment, if there is one."""
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        device = (
            torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            if cuda
            else torch.device("cpu")
        )
        if cuda:
            torch.cuda.set_device(device)
        if world > 1:
            dist.init_process_group("nccl" if cuda else "gloo", timeout=timeout)
        return cls(rank, world, device)

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1:
            dist.destroy_process_group()

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all workers, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker."""
        if self.world == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        """Wait for all workers."""
        if self.world > 1:
            dist.barrier()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum gradients over all workers.

        A head that no worker used in this step keeps no gradient, so the optimizer leaves it
        alone; one that only some workers used counts as zero on the others. First the workers
        agree on which parameters have a gradient anywhere, then those are summed in one call.
        """
        if self.world == 1:
            return
        parameters = list(parameters)
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        used = self.sum(used).tolist()
        active = [p for p, count in zip(parameters, used, strict=True) if count]
        for parameter in active:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch._utils._flatten_dense_tensors([p.grad for p in active])
        summed = torch._utils._unflatten_dense_tensors(self.sum(flat), [p.grad for p in active])
        for parameter, gradient in zip(active, summed, strict=True):
            parameter.grad.copy_(gradient)
