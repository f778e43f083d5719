"""Attention over packed sequences: one after the other without padding, each sees only itself.

On a GPU ``torch.nn.attention.varlen`` computes it, torch's own build of FlashAttention-2, so that
no further package is needed. It takes bfloat16 and float16 only; elsewhere sequences of like
length are attended to together, padded to the longest of them. That is all the padding there is:
embeddings, matrix products and everything else work on the tokens alone.

Neither drops attention probabilities in training: the kernel's dropout is fixed at 0 in torch, and
on a CPU dropping them takes the slow way, twice the time. Packed training therefore has the dropout
of hidden states only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The name of this attention in a model's configuration.
PACKED = "packed_varlen"

#: Model types that take position ids and pass their keywords on to attention, and whether they
#: count positions from behind the padding id, as RoBERTa does. BART is not among them: it works out
#: its learned positions inside, so a packed row would run beyond their number.
PACKABLE = {"bert": False, "electra": False, "modernbert": False, "camembert": True,
            "roberta": True, "xlm-roberta": True}  # fmt: skip


#: Sequences that share a block are at least this many times as long as its longest.
_LIKE = 0.8


def register() -> None:
    """Make ``attn_implementation=PACKED`` known to ``transformers``.

    No mask function is registered under that name, which is how ``transformers`` is told to
    build no mask.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: None, *,
    scaling: float, cu_seq_lens_q: Tensor, max_length_q: int, sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """(1, heads, T, dim) each to (1, T, heads, dim); ``cu_seq_lens_q`` (S + 1,) int32.

    With ``sliding_window`` w a token sees those less than w away, on either side (ModernBERT).
    """
    reach = -1 if sliding_window is None else sliding_window - 1
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        flat = (each[0].transpose(0, 1) for each in (query, key, value))
        limits = (cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q)
        return varlen_attn(*flat, *limits, scale=scaling, window_size=(reach, reach))[None], None
    return _by_length(query, key, value, cu_seq_lens_q.diff(), scaling, reach), None


@dataclass(frozen=True)
class _Block:
    """Sequences of like length: ``places`` (S, L) of their tokens, ``real`` (S, L) where those are
    no padding, None where there is none."""

    places: Tensor
    real: Tensor | None


@torch.compiler.disable  # which lengths there are is not for a compiler to know
def _by_length(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, reach: int
) -> Tensor:
    blocks, back = _blocks(tuple(lengths.tolist()), query.device)
    flat = [each[0].transpose(0, 1) for each in (query, key, value)]
    out = []
    for block in blocks:
        part = (each[block.places].transpose(1, 2) for each in flat)
        mask = _mask(block, reach)
        states = F.scaled_dot_product_attention(*part, attn_mask=mask, scale=scale).transpose(1, 2)
        out.append(states.flatten(0, 1) if block.real is None else states[block.real])
    return torch.cat(out).index_select(0, back)[None]


@lru_cache(maxsize=2)  # every layer of a pass asks for the same
def _blocks(lengths: tuple[int, ...], device: torch.device) -> tuple[list[_Block], Tensor]:
    """Blocks that hold every sequence once, and where in them, one after the other, each token is.

    A block's sequences are at least ``_LIKE`` times as long as its longest.
    """
    size = torch.tensor(lengths)
    start, order = size.cumsum(0) - size, size.argsort(descending=True, stable=True)
    blocks, at = [], 0
    while at < len(order):
        longest = int(size[order[at]])
        some = order[at:][size[order[at:]] >= _LIKE * longest]
        real = torch.arange(longest) < size[some, None]
        places = (start[some, None] + torch.arange(longest)).where(real, start[some, None])
        blocks.append((places, None if real.all() else real))
        at += len(some)
    taken = torch.cat([p.flatten() if real is None else p[real] for p, real in blocks])
    moved = [_Block(p.to(device), real if real is None else real.to(device)) for p, real in blocks]
    return moved, taken.argsort().to(device)


def _mask(block: _Block, reach: int) -> Tensor | None:
    """(S, 1, L or 1, L) which tokens see which; None where all see all."""
    mask = None if block.real is None else block.real[:, None, None]
    length = block.places.shape[1]
    if reach < 0 or length <= reach + 1:
        return mask
    position = torch.arange(length, device=block.places.device)
    near = (position[:, None] - position).abs() <= reach
    return near if mask is None else mask & near
