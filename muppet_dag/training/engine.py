"""The engine: how a pass is computed on this device. Precision, packing, compilation, sharding."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from muppet_dag.errors import BadConfig
from muppet_dag.mixture.batch import Batch
from muppet_dag.model import losses, smoothness
from muppet_dag.model.multitask import MultiTaskModel, copy_tokenizer, load, saved_heads
from muppet_dag.training import sharding
from muppet_dag.training.flops import Flops, peak
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job


class Engine:
    """The model of a job on its device, and a pass through it."""

    def __init__(self, job: Job, group: Group) -> None:
        self.job, self.settings = job, job.training
        self.device, self.rank = group.device, group.rank
        self.heads = {task.name: task.head for task in job.tasks}
        self.sharded = self.settings.sharding == "fsdp" and group.world > 1
        self.half = _half(self.settings.precision, group.device)
        self.model = self._load()
        if self.settings.compile:
            self.model.backbone.compile(dynamic=True)
        if self.sharded:
            sharding.shard(self.model, group)
        self.peak = peak(group.device) if self.half else None
        self._flops = Flops(self.model.backbone)

    def _load(self) -> MultiTaskModel:
        """The initial model, to be trained. Heads that no task of the job has stay as they are."""
        folder, heads = Path(self.job.init), {head.name: head for head in self.heads.values()}
        trained = list(heads)
        heads |= {head.name: head for head in saved_heads(folder) if head.name not in heads}
        # The kernel for packed sequences works in half precision only.
        auto = self.device.type == "cuda" and self.half
        packed = {"on": True, "off": False, "auto": auto}[self.settings.packing]
        model = load(
            folder, heads.values(), dropout=self.settings.dropout, seed=self.job.seed,
            packed=packed, r4f=trained if self.settings.regularizer == "r4f" else (),
        )  # fmt: skip
        if self.settings.packing == "on" and not model.packed:
            kind = model.backbone.config.model_type
            raise BadConfig(
                f'{self.job.name}: training.packing is "on", and {kind} models cannot be packed. '
                'Set it to "auto" or "off".'
            )
        return model.to(self.device).train()

    @property
    def generating(self) -> set[str]:
        """Tasks that generate; they run in a forward pass of their own."""
        return {name for name, head in self.heads.items() if head.kind == "generation"}

    def autocast(self) -> AbstractContextManager:
        """Matrix products in bfloat16 where that is asked for; weights stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def losses(self, step: int, slots: Sequence[tuple[int, Batch]]) -> list[Tensor]:
        """The mean of the rows' scaled losses of each slot (Muppet 3.2, eq. 1), in one pass.

        Dropout and the regularizer's noise depend on (seed, step, first slot) alone: not on the
        worker, nor on a resume.
        """
        torch.manual_seed(_seed(self.job.seed, step, slots[0][0]))
        inputs = [(self.heads[batch.task].name, batch.tensors()) for _, batch in slots]
        with self.autocast():
            by_slot = self.model.losses(inputs, self.settings)
        scaled = self.settings.loss_scaling
        return [(losses.scale(loss, n) if scaled else loss).mean() for loss, n in by_slot]

    def nonfinite_gradients(self) -> list[str]:
        """Parameters whose gradient (of sharded ones, this worker's part) is not finite."""
        grads = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        local = {name: g.to_local() if isinstance(g, DTensor) else g for name, g in grads.items()}
        return [name for name, grad in local.items() if not torch.isfinite(grad).all()]

    def nonfinite_alone(self, step: int, slot: int, batch: Batch) -> list[str]:
        """The same for the gradient of one slot. The step's own gradients are lost."""
        self.model.zero_grad(set_to_none=True)
        self.losses(step, [(slot, batch)])[0].backward()
        return self.nonfinite_gradients()

    def save(self, folder: Path) -> None:
        """Write the model and the tokenizer, so that the folder is complete on its own.

        Every worker must call it, since weights may be sharded; the first one writes.
        """
        state = sharding.full_state(self.model) if self.sharded else None
        if self.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            self.model.save(folder, state)
            copy_tokenizer(Path(self.job.init), folder)

    def flops(self, batch: Batch) -> int:
        """What a slot takes, with the regularizer's second time (see ``Flops``)."""
        kind = self.heads[batch.task].kind
        times = 1 + smoothness.applies(kind, self.settings)
        return self._flops.of(batch, generates=kind == "generation", times=times)


def _half(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
