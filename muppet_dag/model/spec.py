"""HeadSpec: a head by name, without any of the machinery (a job file can hold it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classification", "regression", "ranking", "span", "generation"]


@dataclass(frozen=True)
class HeadSpec:
    """A head: its name, its kind and, for classification, the number of classes."""

    name: str
    kind: Kind
    classes: int = 1
