"""What share of the tokens that a model computes over is no padding, and what mixing does to steps.

``python -m benchmarks.padding [DATA --model FOLDER]``. DATA is a folder laid out as the Hub: every
task that the recipe ``muppet`` mixes and that has rows there goes to tokens of the model's
tokenizer. Without it rows are made up whose lengths are drawn like those of real tasks. Over one
natural epoch of the recipe's slots:

- bucketed: slots as they are, padded to their longest sequence;
- packed: the same slots, sequences one after the other;
- shuffled: all rows in random order, batches of 32 padded to the longest, as a data loader with
  ``DataCollatorWithPadding`` gives them;
- one_task: batches of 32 rows of one task, as MT-DNN trains.

What is computed over is counted for the first two at the backbone: a stand-in takes its place and
counts the positions that it is handed. The other two follow from the lengths.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rows import model_of, synthetic, tokens_in
from benchmarks.table import show
from muppet_dag.mixture import index
from muppet_dag.mixture.loader import Loader
from muppet_dag.mixture.sizes import Sizes
from muppet_dag.model import attention
from muppet_dag.model.backbone import Reader
from muppet_dag.model.layout import Text
from muppet_dag.recipes import SHIPPED, Recipe, load

ROWS, BATCH, SEED = 200_000, 32, 20210111


def main() -> None:
    """Count, print tables and a JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a folder laid out as the Hub")
    parser.add_argument("--model", type=Path, help="folder of a base model; needed with DATA")
    args = parser.parse_args()
    if args.data and not args.model:
        parser.error("DATA needs --model")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        recipe = load(SHIPPED / "muppet.toml")
        if args.data:
            tokens = real_tokens(home, recipe, args.data, args.model)
        else:
            tokens = synthetic_tokens(home)
        sizes = {name: Sizes.read(path) for name, path in tokens.items()}
        spec = replace(recipe.mixture, steps=None, epochs=1)
        facts = index.build(sizes, spec, SEED, home)
        bucketed, packed = count_positions(Loader(home, tokens))
        assert bucketed == facts["padded_tokens"], (bucketed, facts["padded_tokens"])
        report_steps(Loader(home, tokens), facts)
    computed = {"bucketed": bucketed, "packed": packed, **batched_tokens(sizes)}
    report(facts, computed)


def real_tokens(home: Path, recipe: Recipe, data: Path, model: Path) -> dict[str, Path]:
    """Folders of tokens, by task, of all tasks of the recipe that have training rows in DATA."""
    from muppet_dag import catalogue

    tokens = tokens_in(home, data, model, recipe, recipe.select(catalogue.TASKS))
    return {name: artefact.path for name, artefact in tokens.items()}


def synthetic_tokens(home: Path) -> dict[str, Path]:
    """The same of made-up tasks."""
    rows = synthetic(home, model_of("minilm", home / "model"), total=ROWS)
    return {task.name: Path(task.tokens) for task in rows.tasks}


class Counter(nn.Module):
    """Stands in for an encoder: counts the positions it is given, and returns zeros."""

    def __init__(self, *, packed: bool) -> None:
        super().__init__()
        self.config = SimpleNamespace(
            is_encoder_decoder=False, pad_token_id=0, type_vocab_size=2, model_type="bert",
            _attn_implementation=attention.PACKED if packed else "sdpa",
        )  # fmt: skip
        self.embedding = nn.Embedding(1, 1)
        self.positions = 0

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embedding

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        self.positions += input_ids.numel()
        return SimpleNamespace(last_hidden_state=torch.zeros(*input_ids.shape, 1))


def count_positions(loader: Loader) -> tuple[int, int]:
    """Positions that a backbone is handed for the slots of a mixture, padded and packed."""
    padded, packed = Counter(packed=False), Counter(packed=True)
    readers = Reader(padded), Reader(packed)
    for step in loader:
        for _, batch in (slot for each in step.passes for slot in each.slots):
            text = Text.of([batch.tensors()], torch.device("cpu"))
            for reader in readers:
                reader.hidden_states(text)
    return padded.positions, packed.positions


def batched_tokens(sizes: Mapping[str, Sizes]) -> dict[str, int]:
    """Tokens with padding in batches of rows in random order: of all tasks, and of one task."""
    draw = np.random.default_rng(SEED)
    width, sequences = (
        np.concatenate([getattr(each, name) for each in sizes.values()]).astype(np.int64)
        for name in ("width", "sequences")
    )
    edges = np.cumsum([0, *map(len, sizes.values())])
    orders = {
        "shuffled": [draw.permutation(len(width))],
        "one_task": [low + draw.permutation(high - low) for low, high in pairwise(edges)],
    }
    return {
        name: sum(int(sequences[rows].sum() * width[rows].max()) for rows in _cut(each))
        for name, each in orders.items()
    }


def _cut(orders: list[np.ndarray]) -> Iterator[np.ndarray]:
    for order in orders:
        yield from np.split(order, range(BATCH, len(order), BATCH))


def report_steps(loader: Loader, facts: Mapping[str, Any]) -> None:
    """How many tasks a step holds; a task's share of the loss against its share of the rows.

    A step's loss is the mean over its slots of the mean over their rows.
    """
    distinct, weight = [], dict.fromkeys(loader.tasks, 0.0)
    for step in loader:
        tasks = [batch.task for each in step.passes for _, batch in each.slots]
        distinct.append(len(set(tasks)))
        for task in tasks:
            weight[task] += 1 / step.total_slots
    of_loss = [
        weight[task] / len(distinct) / (rows / facts["rows"])
        for task, rows in facts["rows_by_task"].items()
    ]
    show(
        ("", "min", "median", "max"),
        [
            ("tasks in a step", min(distinct), f"{np.median(distinct):g}", max(distinct)),
            ("a task's share of the loss / of the rows", f"{min(of_loss):.2f}",
             f"{np.median(of_loss):.2f}", f"{max(of_loss):.2f}"),
        ],
    )  # fmt: skip
    print(f"{len(loader.tasks)} tasks, {facts['slots']:,} slots, {len(distinct):,} steps\n")


def report(facts: Mapping[str, Any], computed: Mapping[str, int]) -> None:
    """A table for people, and a JSON line for machines."""
    show(
        ("", "tokens", "computed over", "useful"),
        [
            (name, f"{facts['tokens']:,}", f"{count:,}", f"{facts['tokens'] / count:.2%}")
            for name, count in computed.items()
        ],
    )
    shares = {f"useful_share_{n}": round(facts["tokens"] / c, 4) for n, c in computed.items()}
    print(json.dumps(shares))


if __name__ == "__main__":
    main()
