"""What all tables of a recipe have in common: how their values are checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

#: Whole numbers are rows, tokens, steps or slots, which are numbered in 32 bits.
MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table of a recipe. Unknown keys are refused.

    Every number is named by one of the lists below, or checked by its section's own ``problems``.
    """

    __pydantic_config__: ClassVar[dict] = {"extra": "forbid"}
    #: Fields that must be greater than zero.
    positive: ClassVar[tuple[str, ...]] = ()
    #: Fields that must be at least zero.
    not_negative: ClassVar[tuple[str, ...]] = ()
    #: Fields that must lie in [0, 1).
    fraction: ClassVar[tuple[str, ...]] = ()
    #: Lists in which nothing may stand twice.
    unique: ClassVar[tuple[str, ...]] = ()
    #: Lists and texts that must not be empty.
    filled: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if problems := list(self.problems()):
            raise ValueError("; ".join(problems))

    def problems(self) -> Iterator[str]:
        """All that is wrong with the values, one sentence each; sections add their own."""
        for name in self.positive:
            yield from bounded(name, getattr(self, name), least=0, more=True)
        for name in self.not_negative:
            yield from bounded(name, getattr(self, name), least=0)
        for name in self.fraction:
            if not 0 <= getattr(self, name) < 1:
                yield f"{name} must be at least 0 and below 1, not {getattr(self, name)}"
        for name in self.unique:
            yield from _repeated(name, getattr(self, name))
        for name in self.filled:
            value = getattr(self, name)
            if value is not None and not (value.strip() if isinstance(value, str) else value):
                yield f"{name} must not be empty"


def bounded(name: str, value: float | None, least: float, more: bool = False) -> Iterator[str]:
    """A problem unless the value is finite, at least ``least`` (or more than that) and, if it is a
    whole number, at most ``MOST``."""
    if value is None:
        return
    if not (value > least if more else value >= least) or not math.isfinite(value):
        yield f"{name} must be {'greater than' if more else 'at least'} {least}, not {value}"
    elif isinstance(value, int) and value > MOST:
        yield f"{name} must be at most {MOST}, not {value}"


def _repeated(name: str, values: Sequence[object]) -> Iterator[str]:
    twice = dict.fromkeys(value for value in values if values.count(value) > 1)
    if twice:
        yield f"{name} names {', '.join(map(str, twice))} more than once"
