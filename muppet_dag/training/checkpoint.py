"""Checkpoints: weights, optimizer state, averaged weights, and the step to go on from.

All the rest of a run's state is a function of the step: the place in the data (the mixture), the
learning rate (the schedule), the dropout noise (seeded by step and slot).

    checkpoints/step-00001000/shard-00001-….safetensors   each worker's part, named tensors
                              state.json                  step, fingerprint, file hashes, progress
    checkpoints/best.json                                 the step whose weights were best

Tensors go through torch.distributed.checkpoint in its safetensors format, which says where each
part belongs, so another number of workers, sharded or not, can read it. No pickle. A checkpoint is
written beside, made to last (fsync) and renamed, so a killed write leaves no trace.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from muppet_dag import disk
from muppet_dag.errors import MuppetError
from muppet_dag.files import file_hash, make_durable, read_json, rename, write_atomic
from muppet_dag.recipes import TrainingSection
from muppet_dag.store import digest
from muppet_dag.training.group import Group
from muppet_dag.training.optim import Ema
from muppet_dag.training.state import load_optimizer, optimizer_state, room, weights

_STATE, _BEST, _WRITING, _REMOVING = "state.json", "best.json", ".writing", ".removing"
# Of a run on one worker, which is meant.
warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)


class Checkpoints:
    """The checkpoints of one job in one folder, which all its workers see.

    The last ``training.keep`` stay, every one at a multiple of ``training.keep_every`` steps, and
    the best. With ``training.async_checkpoints`` a save copies the state and returns; a thread
    writes it while training goes on.
    """

    def __init__(
        self, folder: Path, fingerprint: str, training: TrainingSection, group: Group
    ) -> None:
        self.folder, self.fingerprint = Path(folder), fingerprint
        self.training, self.group = training, group
        self.folder.mkdir(parents=True, exist_ok=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        cuda = group.device.type == "cuda"
        self._stager = DefaultStager(
            StagingOptions(cuda, use_shared_memory=False, use_async_staging=False,
                           use_non_blocking_copy=cuda)
        )  # fmt: skip

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        progress: Mapping[str, Any],
        ema: Ema | None = None,
    ) -> None:
        """Save the state before ``step`` (that many steps were taken); ``progress`` must be JSON.

        Every worker must call it. A save that still goes on is waited for, and its error raised.
        """
        self.wait()
        tensors = {**weights(model, ema), **optimizer_state(model, optimizer)}
        state = {"step": step, "fingerprint": self.fingerprint, "said": dict(progress)}
        if self.training.async_checkpoints:
            staged = self._stager.stage(tensors)
            self._writing = self._thread.submit(self._write, staged, state)
        else:
            self._write(tensors, state)

    def wait(self) -> None:
        """Return when no save goes on any more. Raises what went wrong in it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def mark_best(self, step: int) -> None:
        """The checkpoint of ``step`` is the best so far: keep it whatever comes, until another is.

        Before or after its ``save``. A run that is killed between the two says it again, since it
        takes the same steps; one that goes on says what its ``progress`` holds.
        """
        if self.group.rank == 0:
            write_atomic(self.folder / _BEST, json.dumps({"step": step}))

    def best(self) -> Path | None:
        """The checkpoint that was marked as the best, if it is there."""
        step = (read_json(self.folder / _BEST) or {}).get("step")
        path = self._path(step) if isinstance(step, int) else None
        return path if path in self.saved() else None

    def saved(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(p for p in self.folder.glob("step-*") if (p / _STATE).is_file())

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, ema: Ema | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Load the newest checkpoint: the step to go on from and its ``progress``; (0, {}) if
        there is none.

        MuppetError if it is damaged, or of another mixture, model, seed or setting.
        """
        self.wait()
        if not (saved := self.saved()):
            return 0, {}
        state = self._checked(saved[-1])
        self._read(saved[-1], weights(model, ema))
        kept = room(model, self._sizes(saved[-1]))
        self._read(saved[-1], kept)
        load_optimizer(model, optimizer, kept)
        return state["step"], state["said"]

    def restore_best(self, model: nn.Module, ema: Ema | None = None) -> None:
        """Load the weights (and their averages) of the best checkpoint. Errors as ``restore``."""
        self.wait()
        if (path := self.best()) is None:
            raise MuppetError(
                f"{self.folder}: no checkpoint is marked as the best, or that one is gone. Delete "
                "the folder to start anew."
            )
        self._checked(path)
        self._read(path, weights(model, ema))

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _write(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Runs in the thread, or not; the workers meet in the background group alone."""
        scratch, path = self.folder / _WRITING, self._path(state["step"])
        try:
            if self.group.rank == 0:
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
            self._meet()
            writer = dcp.HuggingFaceStorageWriter(str(scratch), save_distributed=True)
            dcp.save(tensors, storage_writer=writer, **self._together)
            self._meet()
            if self.group.rank == 0:
                self._finish(scratch, path, state)
            self._meet()
        except (OSError, dcp.CheckpointException) as error:
            reason = _reason(error)
            if disk.is_full(OSError(reason)):
                reason += f"; {disk.room(self.folder)} left there"
            if self.group.rank == 0:
                shutil.rmtree(scratch, ignore_errors=True)  # to give back the room it took
            raise MuppetError(
                f"the checkpoint of step {state['step']} could not be written to {self.folder} "
                f"({reason}). The one before it is whole: see to it, then run again to "
                "resume."
            ) from error

    def _finish(self, scratch: Path, path: Path, state: dict[str, Any]) -> None:
        """Put a written checkpoint in its place, for good, and remove those that are not kept."""
        files = {p.name: file_hash(p) for p in sorted(scratch.glob("*.safetensors"))}
        state = {**state, "files": files}
        state = {**state, "digest": digest(state)}
        write_atomic(scratch / _STATE, json.dumps(state, indent=1))
        make_durable(scratch)
        self._remove(path)
        rename(scratch, path)
        kept, every = {*self.saved()[-self.training.keep :], self.best()}, self.training.keep_every
        for old in self.saved():
            step = int(old.name.removeprefix("step-"))
            if old not in kept and not (every and step % every == 0):
                self._remove(old)

    def _remove(self, path: Path) -> None:
        """Renamed first, so that a removal that is cut short leaves nothing that looks whole."""
        rubbish = self.folder / _REMOVING
        shutil.rmtree(rubbish, ignore_errors=True)
        if path.exists():
            os.rename(path, rubbish)
            shutil.rmtree(rubbish)

    def _checked(self, path: Path) -> dict[str, Any]:
        """state.json of a checkpoint that is whole and this job's; workers share the hashing."""
        try:
            state = json.loads((path / _STATE).read_text())
            if state.pop("digest") != digest(state):
                raise ValueError("the digest differs")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path / _STATE) from error
        if state["fingerprint"] != self.fingerprint:
            raise MuppetError(
                f"{path} was written by another job (mixture, initial model, seed or settings "
                f"differ: {state['fingerprint']}, not {self.fingerprint}). Delete {self.folder} "
                "to start anew."
            )
        files = sorted(state["files"].items())
        for name, sha256 in files[self.group.rank :: self.group.world]:
            if not (path / name).is_file() or file_hash(path / name) != sha256:
                raise _damaged(path / name)
        return state

    def _sizes(self, path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
        stored = dcp.HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
        return {name: (each.size, each.properties.dtype) for name, each in stored.items()}

    def _read(self, path: Path, tensors: dict[str, Tensor]) -> None:
        try:
            reader = dcp.HuggingFaceStorageReader(str(path))
            dcp.load(tensors, storage_reader=reader, **self._together)
        except dcp.CheckpointException as error:
            raise MuppetError(
                f"{path} does not fit the model that this job trains ({_reason(error)}). "
                f"Delete {self.folder} to start anew."
            ) from error

    @property
    def _together(self) -> dict[str, Any]:
        return {"process_group": self.group.background, "no_dist": self.group.world == 1}

    def _meet(self) -> None:
        if self.group.background is not None:
            dist.barrier(self.group.background)


def _damaged(path: Path) -> MuppetError:
    return MuppetError(
        f"{path} is damaged: its content is not what was written. Delete the folder "
        f"{path.parent} to go on from the checkpoint before it."
    )


def _reason(error: BaseException) -> str:
    """The error behind: torch.distributed.checkpoint wraps those of all workers."""
    inner = [each for each, _ in getattr(error, "failures", {}).values()]
    return "; ".join(sorted({str(each) for each in inner})) or str(error)
