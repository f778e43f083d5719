"""Attention over packed sequences: one after the other without padding, each sees only itself.

On a GPU ``torch.nn.attention.varlen`` computes it, torch's own build of FlashAttention-2, so that
no further package is needed. It takes bfloat16 and float16 only; elsewhere each sequence is
attended to in turn, which gives the same numbers.

Neither drops attention probabilities in training: the kernel's dropout is fixed at 0 in torch.
Packed training therefore has the dropout of hidden states only.
"""

from __future__ import annotations

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
    return _one_by_one(query, key, value, cu_seq_lens_q.diff(), scaling, reach), None


@torch.compiler.disable  # which lengths there are is not for a compiler to know
def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, scale: float, reach: int
) -> Tensor:
    sizes = lengths.tolist()
    parts = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)
    masks = (_within(size, reach, query.device) for size in sizes)
    out = [F.scaled_dot_product_attention(*part, attn_mask=mask, scale=scale)
           for part, mask in zip(parts, masks, strict=True)]  # fmt: skip
    return torch.cat(out, dim=2).transpose(1, 2)


def _within(length: int, reach: int, device: torch.device) -> Tensor | None:
    """(L, L) which tokens are near enough to each other; None where all are."""
    if reach < 0 or length <= reach + 1:
        return None
    position = torch.arange(length, device=device)
    return (position[:, None] - position).abs() <= reach
