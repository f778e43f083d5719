"""From a source to a mixture: shards, the overlap report, base models, tokens, the index."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag import catalogue, settings
from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import Dataset, Files
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.recipes import MixtureSection, Recipe, slug
from muppet_dag.store import Artefact, Store

if TYPE_CHECKING:
    import pyarrow as pa

    from muppet_dag.corpus.sources import Source

log = logging.getLogger(__name__)
#: Raise when the same base model would be found to have other facts.
BASE_VERSION = "2"
#: Where the overlap report lies.
OVERLAP = "overlap/all"


def open_source(spec: str, store: Store) -> Source:
    """The dataset source of a setting: ``hub``, a folder laid out as the Hub, or ``samples``."""
    from muppet_dag.corpus import sources

    if spec != "samples":
        return sources.open_source(spec)
    from muppet_dag import samples

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        samples.make(folder)
        return {"tasks": len(samples.SAMPLES)}

    inputs = {"made:samples": samples.version()}
    artefact = store.build("samples/all", make, code_version="1", inputs=inputs)
    return sources.DirectorySource(artefact.path)


def source_of(dataset: Dataset, source: Source) -> Source:
    """Where this dataset comes from: a user's own files lie where they lie, whatever ``source``."""
    from muppet_dag.corpus.sources import FileSource

    return FileSource() if isinstance(dataset, Files) else source


def make_shards(store: Store, source: Source, task: Task) -> Artefact:
    """Fetch a task's raw files at one version and normalise them.

    Shards that fail a blocking check are refused, and those that stood there before stay current.
    """
    from muppet_dag.corpus import normalize, quality

    source = source_of(task.dataset, source)
    version, before = source.version(task.dataset), last_facts(store, task)

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        files = source.fetch(task.dataset, version)
        facts = {**normalize.normalize(task, files, folder), "revision": task.dataset.revision}
        quality.require(task, folder, facts, before)
        return facts

    return store.build(
        f"shards/{task.name}", make,
        code_version=shards_code(task),
        inputs={source.label(task.dataset): version},
    )  # fmt: skip


def last_facts(store: Store, task: Task) -> Mapping[str, Any] | None:
    """Facts of the shards that stand now, if this very entry made them; none of damaged ones, which
    are made again."""
    try:
        current = store.current(f"shards/{task.name}")
    except MuppetError as error:
        log.warning("%s", error)
        return None
    same = current is not None and current.manifest.code_version == shards_code(task)
    return current.facts if same else None


def shards_code(task: Task) -> str:
    """Code version of a task's shards: its entry and the normaliser."""
    from muppet_dag.corpus import normalize

    return f"{task.fingerprint}.{normalize.VERSION}"


def make_overlap(store: Store) -> Artefact:
    """Find the training rows that appear in an evaluation split of any task that has shards."""
    from muppet_dag.corpus import overlap

    current = {name: store.current(f"shards/{name}") for name in sorted(catalogue.TASKS)}
    shards = {name: artefact for name, artefact in current.items() if artefact}
    if not shards:
        raise MuppetError("no task has shards yet; materialize shards first")
    folders = {name: artefact.path for name, artefact in shards.items()}
    return store.build(
        OVERLAP,
        lambda folder, _: overlap.find(folders, folder),
        code_version=overlap.VERSION,
        inputs={artefact.manifest.name: artefact.version for artefact in shards.values()},
    )


def _overlap_of(store: Store, tokens: Iterable[Artefact]) -> Artefact:
    """The overlap report, if it has seen exactly the shards that these tokens were made from."""
    from muppet_dag.corpus import overlap

    report = store.current(OVERLAP)
    if report is None:
        raise MuppetError(
            "the mixture leaves out training rows that evaluation splits hold, and there is no "
            "overlap report yet; materialize overlap, or set mixture.decontaminate = false in the "
            "recipe"
        )
    versions = [each.manifest.inputs.items() for each in tokens]
    in_use = {name: v for inputs in versions for name, v in inputs if name.startswith("shards/")}
    overlap.require_same(report.manifest.inputs, in_use)
    return report


def make_base(store: Store, base: str, revision: str = "main") -> Artefact:
    """Bring a pretrained model into the store: made on the spot, from a folder or from the Hub."""
    from muppet_dag.model.base import base_version, fetch_base
    from muppet_dag.samples import tiny

    if base in tiny.KINDS:
        label, version = f"made:{base}", tiny.VERSION
    else:
        label, version = base_version(base, revision)
    pinned = version if label.startswith("hub:") else revision

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        if base in tiny.KINDS:
            return tiny.make(base, folder)
        return fetch_base(base, folder, revision=pinned)

    return store.build(
        f"base/{slug(base)}", make, code_version=BASE_VERSION, inputs={label: version}
    )


def make_tokens(store: Store, recipe: Recipe, default_base: str, task: Task) -> Artefact:
    """Tokenize a task's shards with the tokenizer of the recipe's base model."""
    from muppet_dag.corpus import tokenize

    spec = tokenize.TokenSpec(*recipe.model.lengths)
    shards = store.require(f"shards/{task.name}")
    base = store.require(f"base/{slug(recipe.base(default_base))}")
    files = base.manifest.files
    return store.build(
        tokens_name(recipe, default_base, task.name),
        lambda folder, _: tokenize.tokenize(task, shards.path, base.path, folder, spec, base.facts),
        code_version=tokenize.VERSION,
        inputs={shards.manifest.name: shards.version, base.manifest.name: base.version},
        parameters={**asdict(spec), "tokenizer": files["tokenizer.json"]["sha256"]},
    )


def tokens_name(recipe: Recipe, default_base: str, task: str) -> str:
    """Where a task's tokens lie for a recipe's tokenizer."""
    return f"tokens/{recipe.tokenizer(default_base)}/{task}"


def select(recipe: Recipe) -> list[str]:
    """Names of the tasks that a recipe mixes, sorted. BadConfig as ``Recipe.select``, and for a
    task of the user's own that cannot be used where the recipe names it; a recipe that takes its
    whole family goes on without it."""
    downstream, mixture = recipe.finetune.tasks, recipe.mixture
    names = (*recipe.tasks.include, *downstream, *mixture.weights, *mixture.caps)
    if problems := [catalogue.PROBLEMS[n] for n in dict.fromkeys(names) if n in catalogue.PROBLEMS]:
        raise BadConfig(f"recipe {recipe.name!r}: {'; '.join(problems)}")
    exclude = tuple(name for name in recipe.tasks.exclude if name not in catalogue.PROBLEMS)
    return replace(recipe, tasks=replace(recipe.tasks, exclude=exclude)).select(catalogue.TASKS)


#: Why a task that has tokens is not in a mixture.
NOTHING_LEFT = (
    "every training row is, exactly or nearly, a row of a validation or test split; see the "
    "overlap report, or set mixture.decontaminate = false in the recipe"
)


def make_mixture(
    store: Store, recipe: Recipe, default_base: str, *, steps: int | None = None
) -> Artefact:
    """Draw the sampling index over all of the recipe's tasks that have tokens.

    A task without training tokens (its dataset failed), or of which nothing is left, is left out;
    the fact ``left_out`` maps it to the reason. MuppetError if that is so of every task.
    ``steps`` replaces the recipe's budget. BadConfig where that cannot be, or where weights and
    caps do not go with the tasks.

    With ``mixture.decontaminate`` the rows that the overlap report calls ``row`` or ``near`` are
    left out, against every evaluation split of every task: the pre-finetuned model is scored on
    tasks outside its own mixture too. A passage or a question in common (``text``, ``query``) is no
    reason: the answer is not given away, and tasks made from one source (SQuAD and QNLI) would lose
    most of their rows. The fact ``decontaminated`` counts the shard rows left out by task.
    MuppetError without a report of the very same shards.
    """
    from muppet_dag.corpus import overlap
    from muppet_dag.mixture import index, strategies

    spec, selected = _budget(recipe, steps), select(recipe)
    strategies.check_names(spec, selected)
    current = {name: store.current(tokens_name(recipe, default_base, name)) for name in selected}
    usable = {
        n: tokens for n, tokens in current.items() if tokens and "train" in tokens.facts["splits"]
    }
    unusable = sorted(set(catalogue.PROBLEMS) - set(recipe.tasks.exclude))
    inputs = {tokens.manifest.name: tokens.version for tokens in usable.values()}
    report = _overlap_of(store, usable.values()) if usable and spec.decontaminate else None
    if report:
        inputs[OVERLAP] = report.version

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        leaked = {name: overlap.leaked(report.path, name) if report else None for name in usable}
        sizes = {n: index.Sizes.read(t.path, without=leaked[n]) for n, t in usable.items()}
        left_out = {name: "it has no training tokens" for name in selected if name not in usable}
        left_out |= {name: NOTHING_LEFT for name, rows in sizes.items() if not len(rows)}
        if usable and len(left_out) == len(selected):
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise MuppetError(f"recipe {recipe.name!r}: no row is left to draw ({reasons})")
        left_out |= dict.fromkeys(unusable, "its declaration cannot be used")
        facts = index.build(sizes, spec, recipe.seed, folder)
        return {
            **facts,
            "left_out": left_out,
            "decontaminated": {n: len(rows) for n, rows in leaked.items() if rows is not None},
        }

    return store.build(
        f"mixture/{recipe.name}", make,
        code_version=index.VERSION,
        inputs=inputs,
        parameters={"mixture": asdict(spec), "seed": recipe.seed, "tasks": selected}
        | ({"unusable": unusable} if unusable else {}),
    )  # fmt: skip


def _budget(recipe: Recipe, steps: int | None) -> MixtureSection:
    """The recipe's mixture, with a budget of so many steps if they are given."""
    if steps is None:
        return recipe.mixture
    try:
        return replace(recipe.mixture, steps=steps, epochs=None)
    except ValueError as error:
        raise BadConfig(f"recipe {recipe.name!r} with steps = {steps}: {error}") from error


def load_task(
    name: str, source: str | None = None, home: str | Path | None = None
) -> Mapping[str, pa.Table]:
    """A task's normalised rows as Arrow tables by split, made if they are not there yet.

    ``source`` is ``hub``, ``samples`` or a folder laid out as the Hub (``MUPPET_SOURCE``, default
    ``hub``), ``home`` the store (``MUPPET_HOME``, default ``~/.muppet-dag``). The tables are
    memory-mapped; ``datasets.Dataset(table)`` and DuckDB take them as they are. Tasks of your own
    are those in the folder that ``MUPPET_TASKS`` names.
    """
    from muppet_dag.corpus import shards

    if own := os.environ.get("MUPPET_TASKS"):
        catalogue.extend(Path(own))
    store = Store(home or os.environ.get("MUPPET_HOME") or settings.HOME)
    opened = open_source(source or os.environ.get("MUPPET_SOURCE") or "hub", store)
    artefact = make_shards(store, opened, catalogue.get(name))
    return {split: shards.read(artefact.path, split) for split in shards.splits(artefact.path)}
