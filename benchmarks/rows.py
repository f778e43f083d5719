"""Token rows of single-sequence tasks to train on: real ones, or made up of like lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmarks.tokens import common, filled
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.model.spec import HeadSpec
from muppet_dag.recipes import MixtureSection, Recipe

if TYPE_CHECKING:
    from muppet_dag.store import Artefact

SEED = 20210111
#: Made-up tasks: how many, and the median length of the first and the last (tokens).
TASKS, SHORTEST, LONGEST, MOST = 18, 14, 240, 512

_MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
           "intermediate_size": 1536, "vocab_size": 30_522}  # fmt: skip
_BASE = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
#: Shapes of models: their type, and what differs from its configuration's defaults.
SHAPES: dict[str, tuple[str, dict[str, int]]] = {
    "minilm": ("bert", _MINILM),
    "roberta-base": ("roberta", _BASE),
    "roberta-large": (
        "roberta",
        {**_BASE, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
         "intermediate_size": 4096},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """A model's folder, and tasks whose training tokens are all there is to train on."""

    model: Path
    tasks: tuple[TaskFiles, ...]

    def dataset(self) -> Any:
        """The same rows as one ``datasets.Dataset``: input_ids, label, task (its number)."""
        import datasets

        parts = []
        for number, task in enumerate(self.tasks):
            table = _read(Path(task.tokens)).select(["input_ids", "label"])
            parts.append(table.append_column("task", pa.array([number] * len(table), pa.int64())))
        return datasets.Dataset(pa.concat_tables(parts).combine_chunks())


def tokens_in(
    home: Path, data: Path, model: Path, recipe: Recipe, names: Iterable[str]
) -> dict[str, Artefact]:
    """Tokens, in a store in ``home``, of those of the tasks that have training rows in DATA."""
    from muppet_dag import catalogue, pipeline
    from muppet_dag.errors import MuppetError
    from muppet_dag.store import Store

    store, base, artefacts = Store(home / "store"), str(model), {}
    source = pipeline.open_source(str(data), store)
    recipe = replace(recipe, model=replace(recipe.model, base=base))
    pipeline.make_base(store, base)
    for name in names:
        task = catalogue.get(name)
        try:
            pipeline.make_shards(store, source, task)
        except MuppetError:  # no rows of this task here
            continue
        artefacts[name] = pipeline.make_tokens(store, recipe, base, task)
    return artefacts


def real(home: Path, data: Path, model: Path, *, total: int) -> Rows:
    """Rows of every classification task that has data, in proportion to their sizes there."""
    from muppet_dag import catalogue

    names = [
        task.name
        for task in catalogue.TASKS.values()
        if task.family == "classification" and not (task.regression or task.held_out)
    ]
    recipe = Recipe(name="benchmark", mixture=MixtureSection(epochs=1))
    artefacts = tokens_in(home, data, model, recipe, names)
    whole = sum(tokens.facts["splits"]["train"]["rows"] for tokens in artefacts.values())
    draw, files = np.random.default_rng(SEED), []
    for name, tokens in artefacts.items():
        table = _read(tokens.path)
        count = max(1, round(total * len(table) / whole))
        chosen = np.sort(draw.choice(len(table), min(count, len(table)), replace=False))
        classes = len(catalogue.get(name).classes)
        files.append(_write(home / "rows" / name, table.take(pa.array(chosen)), classes))
    return Rows(model, tuple(files))


def synthetic(home: Path, model: Path, *, total: int) -> Rows:
    """Random tokens; the tasks' median lengths are spread over what real tasks have, and so are
    their sizes."""
    import transformers

    from muppet_dag.corpus.tokenize import schema

    vocabulary = transformers.AutoConfig.from_pretrained(model).vocab_size
    draw, files = np.random.default_rng(SEED), []
    sizes = draw.permutation(np.geomspace(1, 20, TASKS))
    sizes = np.maximum(1, np.round(sizes / sizes.sum() * total)).astype(int)
    for number, median in enumerate(np.geomspace(SHORTEST, LONGEST, TASKS)):
        lengths = draw.lognormal(np.log(median), 0.5, sizes[number]).astype(int).clip(4, MOST)
        columns = common(draw, lengths, vocabulary)
        columns["label"] = draw.integers(0, 2, len(lengths)).astype(np.int32)
        table = pa.Table.from_batches([filled(schema(pa.uint16()), columns)])
        files.append(_write(home / "rows" / f"task_{number:02}", table, classes=2))
    return Rows(model, tuple(files))


def model_of(shape: str, folder: Path) -> Path:
    """An encoder of a shape of ``SHAPES`` with random weights, and a tokenizer that can pad."""
    import tokenizers
    import transformers

    kind, differs = SHAPES[shape]
    config = transformers.AutoConfig.for_model(kind, **differs)
    transformers.set_seed(SEED)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    vocabulary = {"[PAD]": config.pad_token_id, "[UNK]": 1 - config.pad_token_id}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    return folder


def _write(folder: Path, table: pa.Table, classes: int) -> TaskFiles:
    folder.mkdir(parents=True)
    table = table.combine_chunks()
    with pa.ipc.new_file(str(folder / "train.arrow"), table.schema) as writer:
        writer.write_table(table)
    head = HeadSpec(folder.name, "classification", classes)
    return TaskFiles(
        name=folder.name, family="classification", head=head, metrics=("accuracy",),
        tokens=str(folder), shards=str(folder),
    )  # fmt: skip


def _read(tokens: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(tokens / "train.arrow"))).read_all()
