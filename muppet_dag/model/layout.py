"""Ragged values: sequences one after the other in a flat tensor, and the same sequences padded.

A slot comes flat, without padding. Where its values go is worked out here by index arithmetic on
the device, with no loop over sequences and no wait for the device as long as lengths lie on the
CPU: their maximum is the only number that Python has to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where S sequences lie among T flat values: ``lengths`` (S,); ``longest`` is L if padded."""

    lengths: Tensor
    total: int
    longest: int

    @classmethod
    def of(cls, lengths: Tensor, values: Tensor) -> Layout:
        """The layout of values (T, ...), on their device."""
        longest = int(lengths.max()) if len(lengths) else 0
        return cls(lengths.to(values.device, non_blocking=True), len(values), longest)

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def ends(self) -> Tensor:
        """(S,) where each sequence ends; the position behind its last value."""
        return self.lengths.cumsum(0)

    @cached_property
    def starts(self) -> Tensor:
        """(S,) where each sequence starts."""
        return self.ends - self.lengths

    @cached_property
    def offsets(self) -> Tensor:
        """(S + 1,) int32: starts and the end, as attention kernels take them."""
        return F.pad(self.ends, (1, 0)).to(torch.int32)

    @cached_property
    def sequence(self) -> Tensor:
        """(T,) which sequence each value belongs to."""
        numbers = torch.arange(len(self), device=self.lengths.device)
        return numbers.repeat_interleave(self.lengths, output_size=self.total)

    @cached_property
    def position(self) -> Tensor:
        """(T,) how many values of its sequence come before each value."""
        return torch.arange(self.total, device=self.lengths.device) - self.starts[self.sequence]

    @cached_property
    def mask(self) -> Tensor:
        """(S, L) true where a padded sequence has a value."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    def pad(self, values: Tensor, filler: float) -> Tensor:
        """(T, ...) to (S, L, ...)."""
        out = values.new_full((len(self) * self.longest, *values.shape[1:]), filler)
        place = self.sequence * self.longest + self.position
        return out.index_copy(0, place, values).unflatten(0, (len(self), self.longest))

    def flat(self, padded: Tensor) -> Tensor:
        """(S, L, ...) to (T, ...)."""
        place = self.sequence * padded.shape[1] + self.position
        return padded.flatten(0, 1).index_select(0, place)


@dataclass(frozen=True)
class Text:
    """Sequences to read: ``ids`` (T,), flat; ``second`` (S,), where second segments start."""

    ids: Tensor
    second: Tensor
    layout: Layout

    @classmethod
    def of(cls, slots: Sequence[Mapping[str, Tensor]], device: torch.device) -> Text:
        """The sequences of several slots, one after the other."""
        ids, second = (
            torch.cat([slot[name].to(device, non_blocking=True) for slot in slots])
            for name in ("input_ids", "second")
        )
        return cls(ids, second, Layout.of(torch.cat([slot["lengths"] for slot in slots]), ids))

    @property
    def types(self) -> Tensor:
        """(T,) the segment of each token, 0 or 1."""
        return (self.layout.position >= self.second[self.layout.sequence]).long()

    def padded(self, pad_id: int) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``token_type_ids``, each (S, L)."""
        return {
            "input_ids": self.layout.pad(self.ids, pad_id),
            "attention_mask": self.layout.mask.long(),
            "token_type_ids": self.layout.pad(self.types, 0),
        }


def padded(inputs: Mapping[str, Tensor], pad_id: int) -> dict[str, Tensor]:
    """A slot's sequences as ``transformers`` takes them: ids, mask and types, each (S, L)."""
    return Text.of([inputs], inputs["input_ids"].device).padded(pad_id)
