"""What prediction reads of a task and what it leaves behind. Needs pyarrow only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from muppet_dag.model.spec import HeadSpec

SCHEMA = pa.schema([("id", pa.string()), ("predicted", pa.string()), ("gold", pa.string())])


@dataclass(frozen=True, kw_only=True)
class TaskFiles:
    """All that training and prediction need to know of a task: no catalogue is read there.

    ``tokens`` and ``shards`` are artefact folders. ``unanswerable`` says whether a reading task
    has questions without an answer, ``longest_target`` how many tokens a summary may take.
    """

    name: str
    family: str
    head: HeadSpec
    metrics: tuple[str, ...]
    tokens: str
    shards: str
    unanswerable: bool = False
    longest_target: int = 128

    def has(self, split: str) -> bool:
        """Whether the task's tokens hold that split."""
        return (Path(self.tokens) / f"{split}.arrow").is_file()


@dataclass(frozen=True)
class Predictions:
    """Predictions and gold values of the same rows, in order."""

    ids: list[str]
    predicted: list[Any]
    gold: list[Any]

    @property
    def groups(self) -> list[str]:
        """The rows' groups: the id without its last ``-`` part (MultiRC: answers of a question)."""
        return [each.rpartition("-")[0] for each in self.ids]

    def write(self, path: Path) -> None:
        """Write as Arrow, values as JSON text."""
        predicted, gold = (
            [json.dumps(v) for v in values] for values in (self.predicted, self.gold)
        )
        with pa.ipc.new_file(str(path), SCHEMA) as writer:
            writer.write_table(pa.table([self.ids, predicted, gold], schema=SCHEMA))

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """Read what ``write`` wrote."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_pydict()
        predicted, gold = ([json.loads(v) for v in table[k]] for k in ("predicted", "gold"))
        return cls(table["id"], predicted, gold)
