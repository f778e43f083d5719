"""How much arithmetic a slot is, and how much a GPU could do: model FLOPs utilisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from muppet_dag.mixture.batch import Batch

if TYPE_CHECKING:
    from transformers import PretrainedConfig

#: Dense bfloat16 peaks in FLOP/s, from the vendors' data sheets; the longest name that fits counts.
PEAKS = {
    "A10": 125e12,
    "A100": 312e12,
    "L4": 121e12,
    "L40S": 362e12,
    "H100": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200": 989e12,
    "B200": 2250e12,
}


def peak(device: torch.device) -> float | None:
    """Peak of a GPU in bfloat16, FLOP/s; None for a device that is not in the table."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """Peak by the name a driver gives, such as ``NVIDIA H100 80GB HBM3``."""
    spaced = f" {name.replace('-', ' ')} "
    fits = [key for key in PEAKS if f" {key} " in spaced]
    return PEAKS[max(fits, key=len)] if fits else None


class Flops:
    """Forward and backward of a backbone over a slot, padding and heads not counted.

    6 N per token, where N are the weights it is multiplied with, and 12 x layers x hidden x length
    for attention (PaLM, Chowdhery et al. 2022, appendix B). Embedding tables are looked up, not
    multiplied, so they do not count; a decoder's layer attends twice.
    """

    def __init__(self, backbone: nn.Module) -> None:
        config = backbone.config
        self.hidden, self.encoder_layers = config.hidden_size, config.num_hidden_layers
        self.encoder_decoder = bool(config.is_encoder_decoder)
        if self.encoder_decoder:
            self.encoder, self.decoder = (
                _weights(side) for side in (backbone.get_encoder(), backbone.get_decoder())
            )
            self.decoder_layers = _decoder_layers(config)
            self.output = config.vocab_size * config.hidden_size
        else:
            self.encoder = _weights(backbone)

    def of(self, batch: Batch, *, generates: bool = False, times: int = 1) -> int:
        """FLOPs of a slot; ``times`` is 2 where a regularizer runs it with noise as well."""
        tokens, squares = int(batch.lengths.sum()), _dot(batch.lengths, batch.lengths)
        weights, attended = self.encoder * tokens, self.encoder_layers * squares
        if generates:
            t, source = batch.target_lengths, batch.lengths
            # Keys and values of the source: two square matrices a layer.
            across = 2 * self.decoder_layers * self.hidden**2
            weights += across * tokens + (self.decoder - across + self.output) * int(t.sum())
            attended += self.decoder_layers * (_dot(t, t) + _dot(t, source))
        elif self.encoder_decoder:  # the same sequence on both sides
            weights += self.decoder * tokens
            attended += 2 * self.decoder_layers * squares
        return (6 * weights + 12 * self.hidden * attended) * times


def _decoder_layers(config: PretrainedConfig) -> int:
    """The one number that families have no common name for."""
    names = ("num_decoder_layers", "decoder_layers", "num_hidden_layers")
    return next(getattr(config, name) for name in names if hasattr(config, name))


def _weights(module: nn.Module) -> int:
    """Numbers in matrices that every token meets; an encoder's pooler is never run."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return sum(
        p.numel()
        for name, p in module.named_parameters()
        if p.ndim > 1 and id(p) not in tables and not name.startswith("pooler.")
    )


def _dot(one, other) -> int:
    return int((one.astype("int64") * other).sum())
