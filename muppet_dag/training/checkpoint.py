"""Checkpoints: weights, optimizer state and one integer, the next step.

All the rest of a run's state is a function of the step: the place in the data (the mixture), the
learning rate (the schedule), the dropout noise (seeded by step and slot). safetensors and JSON
only, no pickle. A checkpoint is written beside and renamed, so a killed write leaves no trace.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from muppet_dag.errors import MuppetError

_STATE = "state.json"


class Checkpoints:
    """The checkpoints of one job in one folder; the last ``keep`` stay."""

    def __init__(self, folder: Path, fingerprint: str, keep: int) -> None:
        self.folder, self.fingerprint, self.keep = Path(folder), fingerprint, keep
        self.folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> Path:
        """Save the state before ``step`` (that many steps have been taken)."""
        path, scratch = self.folder / f"step-{step:08d}", self.folder / ".writing"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        save_model(model, str(scratch / "model.safetensors"))
        save_file(_tensors(optimizer), scratch / "optimizer.safetensors")
        state = {"step": step, "fingerprint": self.fingerprint}
        (scratch / _STATE).write_text(json.dumps(state))
        shutil.rmtree(path, ignore_errors=True)
        os.rename(scratch, path)
        for old in self.saved()[: -self.keep]:
            shutil.rmtree(old)
        return path

    def saved(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(p for p in self.folder.glob("step-*") if (p / _STATE).is_file())

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest checkpoint; returns the step to go on from (0 if there is none).

        Raises MuppetError if it belongs to another mixture, model, seed or setting.
        """
        saved = self.saved()
        if not saved:
            return 0
        state = json.loads((saved[-1] / _STATE).read_text())
        if state["fingerprint"] != self.fingerprint:
            raise MuppetError(
                f"{saved[-1]} was written by another job (mixture, initial model, seed or "
                f"settings differ: {state['fingerprint']}, not {self.fingerprint}). "
                f"Delete {self.folder} to start anew."
            )
        load_model(model, str(saved[-1] / "model.safetensors"))
        _load_tensors(optimizer, load_file(saved[-1] / "optimizer.safetensors"))
        return state["step"]


def _tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Optimizer state as flat tensors, ``<parameter number>.<key>``."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{key}": torch.as_tensor(value).detach().cpu().contiguous().clone()
        for index, values in state.items()
        for key, value in values.items()
    }


def _load_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
