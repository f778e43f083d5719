"""The process group: what the workers of one job say to each other.

Gradients are summed here, once a step, rather than by torch's DistributedDataParallel. Heads that
only some workers used in a step would need its ``find_unused_parameters``, which walks the graph
of every pass and still gives heads that nobody used a gradient of zero, so that weight decay and
momentum move them; workers may have different numbers of passes in a step, which its hooks do not
allow for; and since a step's passes are summed up first, there is little left to overlap with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from muppet_dag.training.watchdog import Watchdog

#: Bytes of gradients that are summed in one call: enough for the network to be busy.
BUCKET = 25 * 2**20


@dataclass(frozen=True)
class Group:
    """Rank, number of workers and device of this process. Alone, every call is a no-op.

    ``background`` is a second group over the same workers, on the CPU, for a thread that writes
    checkpoints: its messages must not get between those of the training loop.
    """

    rank: int
    world: int
    device: torch.device
    background: dist.ProcessGroup | None = None
    watchdog: Watchdog | None = None

    @property
    def device_name(self) -> str:
        """What people call the device: a GPU's model, or ``cpu``."""
        cuda = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if cuda else self.device.type

    @classmethod
    def start(cls, timeout: timedelta = timedelta(minutes=30)) -> Group:
        """Join the group that torchrun describes in the environment, if there is one.

        A worker that makes no progress for longer than ``timeout`` ends the job (see watchdog).
        """
        rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        cuda = torch.cuda.is_available()
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else None
        if cuda:
            torch.cuda.set_device(device)
        if world == 1:
            return cls(rank, world, device or torch.device("cpu"))
        store, rank, world = next(dist.rendezvous("env://", rank, world, timeout=timeout))
        # gloo beside NCCL: words about the run travel on the CPU and do not wait for the GPU.
        # A little more patience than the watchdog has, which can say who was missing.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world,
            timeout=timeout + timedelta(minutes=1), device_id=device,
        )  # fmt: skip
        background = dist.new_group(backend="gloo", timeout=timeout + timedelta(minutes=1))
        watchdog = Watchdog(store, rank, world, timeout)
        return cls(rank, world, device or torch.device("cpu"), background, watchdog)

    def close(self) -> None:
        """Leave the group."""
        if self.watchdog:
            self.watchdog.close()
        if self.world > 1:
            dist.destroy_process_group()

    def sum(self, values: Tensor) -> Tensor:
        """Sum a tensor over all workers, in place."""
        if self.world > 1:
            with self._waiting("a sum"):
                dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker."""
        return bool(self.sum(torch.tensor(float(flag))) > 0)

    def barrier(self) -> None:
        """Wait until all workers have come here; what their GPUs have to do may still go on."""
        self.sum(torch.zeros(1))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of replicated parameters over all workers.

        A head that no worker used in this step keeps no gradient, so the optimizer leaves it
        alone; one that only some workers used counts as zero on the others. First the workers
        agree on which parameters have a gradient anywhere, then those are summed, some 25 MB at
        a time. Sharded parameters are passed over: their gradients are summed when they are made.
        """
        if self.world == 1:
            return
        parameters = [p for p in parameters if not isinstance(p, DTensor)]
        used = self.sum(torch.tensor([float(p.grad is not None) for p in parameters])).tolist()
        active = [p for p, count in zip(parameters, used, strict=True) if count]
        for parameter in active:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        with self._waiting("the sum of the gradients"):
            for bucket in _buckets(active):
                _sum(bucket)

    def _waiting(self, name: str) -> AbstractContextManager[None]:
        return self.watchdog.waiting(name) if self.watchdog else nullcontext()


def _buckets(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Neighbours of one type, up to ``BUCKET`` bytes; the same on every worker."""
    bucket: list[nn.Parameter] = []
    room = BUCKET
    for parameter in parameters:
        size = parameter.grad.nbytes
        if bucket and (size > room or parameter.grad.dtype != bucket[0].grad.dtype):
            yield bucket
            bucket, room = [], BUCKET
        bucket.append(parameter)
        room -= size
    if bucket:
        yield bucket


@torch.no_grad()
def _sum(bucket: list[nn.Parameter]) -> None:
    flat = torch.cat([parameter.grad.reshape(-1) for parameter in bucket])
    dist.all_reduce(flat)
    sizes = [parameter.numel() for parameter in bucket]
    for parameter, part in zip(bucket, flat.split(sizes), strict=True):
        parameter.grad.copy_(part.view_as(parameter))
