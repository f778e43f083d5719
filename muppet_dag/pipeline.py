"""The whole way, one function per artefact: what the DAG's assets call, and what Python users can.

    source -> shards -> tokens -> mixture -> pre-finetuned model
           -> fine-tuned models -> evaluations -> leaderboard

Each function names its inputs by content hash and asks the store for the result, so calling it
again with the same inputs makes nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag import catalogue
from muppet_dag.catalogue import Task
from muppet_dag.catalogue.task import Dataset, Files
from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predictions import Predictions, TaskFiles
from muppet_dag.manifest import Artefact, Store, digest
from muppet_dag.model.spec import HeadSpec, Kind
from muppet_dag.recipes import FinetuneSection, Recipe, slug

if TYPE_CHECKING:
    import pyarrow as pa

    from muppet_dag.corpus.sources import Source
    from muppet_dag.training.launch import Launch

#: Raise when the same inputs would train to other weights, or score otherwise.
TRAINING_VERSION = EVALUATION_VERSION = "1"
#: The two starting points of fine-tuning: ``demo.base`` and ``demo.pre``.
BASE, PRE = ".base", ".pre"


def initialisations(recipe: Recipe) -> tuple[str, str]:
    """Names of what is compared: fine-tuned from the base model, and from the pre-finetuned one."""
    return f"{recipe.name}{BASE}", f"{recipe.name}{PRE}"


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
    made = store.build("samples/all", make, code_version="1", inputs=inputs)
    return sources.DirectorySource(made.path)


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
    """Facts of the shards that stand now, if this very entry made them."""
    current = store.current(f"shards/{task.name}")
    same = current is not None and current.manifest.code_version == shards_code(task)
    return current.facts if same else None


def shards_code(task: Task) -> str:
    """Code version of a task's shards: its entry and the normaliser."""
    from muppet_dag.corpus import normalize

    return f"{task.fingerprint}.{normalize.VERSION}"


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

    return store.build(f"base/{slug(base)}", make, code_version="1", inputs={label: version})


def make_tokens(store: Store, recipe: Recipe, default_base: str, task: Task) -> Artefact:
    """Tokenize a task's shards with the tokenizer of the recipe's base model."""
    from muppet_dag.corpus import tokenize

    model = recipe.model
    spec = tokenize.TokenSpec(model.max_length, model.stride, model.max_target_length)
    shards = store.require(f"shards/{task.name}")
    base = store.require(f"base/{slug(recipe.base(default_base))}")
    said = base.manifest.files
    return store.build(
        tokens_name(recipe, default_base, task.name),
        lambda folder, _: tokenize.tokenize(task, shards.path, base.path, folder, spec),
        code_version=tokenize.VERSION,
        inputs={shards.manifest.name: shards.version, base.manifest.name: base.version},
        parameters={**asdict(spec), "tokenizer": said["tokenizer.json"]["sha256"]},
    )


def tokens_name(recipe: Recipe, default_base: str, task: str) -> str:
    """Where a task's tokens lie for a recipe's tokenizer."""
    return f"tokens/{recipe.tokenizer(default_base)}/{task}"


#: Where the overlap report lies.
OVERLAP = "overlap/all"


def make_overlap(store: Store) -> Artefact:
    """Find the training rows that appear in an evaluation split of any task that has shards."""
    from muppet_dag.corpus import overlap

    found = {name: store.current(f"shards/{name}") for name in sorted(catalogue.TASKS)}
    made = {name: shards for name, shards in found.items() if shards}
    if not made:
        raise MuppetError("no task has shards yet; materialize shards first")
    folders = {name: shards.path for name, shards in made.items()}
    return store.build(
        OVERLAP,
        lambda folder, _: overlap.find(folders, folder),
        code_version=overlap.VERSION,
        inputs={shards.manifest.name: shards.version for shards in made.values()},
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


def make_mixture(
    store: Store, recipe: Recipe, default_base: str, *, steps: int | None = None
) -> Artefact:
    """Draw the sampling index over all of the recipe's tasks that have tokens.

    A task without training tokens (its dataset failed) is left out, and the manifest says so.
    ``steps`` replaces the recipe's budget. With ``mixture.decontaminate`` the rows that the overlap
    report calls ``row`` or ``near`` are left out, against every evaluation split of every task:
    the pre-finetuned model is scored on tasks outside its own mixture too. A passage or a question
    in common (``text``, ``query``) is no reason: the answer is not given away, and tasks made from
    one source (SQuAD and QNLI) would lose most of their rows. The fact ``decontaminated`` counts
    the shard rows left out by task. MuppetError without a report of the very same shards.
    """
    from muppet_dag.corpus import overlap
    from muppet_dag.mixture import index

    spec = recipe.mixture
    if steps is not None:
        spec = replace(spec, steps=steps, epochs=None)
    wanted = recipe.select(catalogue.TASKS)
    found = {name: store.current(tokens_name(recipe, default_base, name)) for name in wanted}
    usable = {
        n: tokens for n, tokens in found.items() if tokens and "train" in tokens.facts["splits"]
    }
    inputs = {tokens.manifest.name: tokens.version for tokens in usable.values()}
    report = _overlap_of(store, usable.values()) if usable and spec.decontaminate else None
    if report:
        inputs[OVERLAP] = report.version

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        leaked = {name: overlap.leaked(report.path, name) if report else None for name in usable}
        sizes = {n: index.Sizes.read(t.path, without=leaked[n]) for n, t in usable.items()}
        facts = index.build(sizes, spec, recipe.seed, folder)
        return {
            **facts,
            "left_out": [name for name in wanted if name not in usable],
            "decontaminated": {n: len(rows) for n, rows in leaked.items() if rows is not None},
        }

    return store.build(
        f"mixture/{recipe.name}", make,
        code_version=index.VERSION,
        inputs=inputs,
        parameters={"mixture": asdict(spec), "seed": recipe.seed, "tasks": wanted},
    )  # fmt: skip


def prefinetune(store: Store, recipe: Recipe, default_base: str, launch: Launch) -> Artefact:
    """Train the base model on the mixture; resumes from its last checkpoint after a kill."""
    base = store.require(f"base/{slug(recipe.base(default_base))}")
    mixture = store.require(f"mixture/{recipe.name}")
    names = [name for name in mixture.manifest.inputs if name.startswith("tokens/")]
    tokens = {
        name.rsplit("/", 1)[1]: store.open(name, mixture.manifest.inputs[name]) for name in names
    }

    def make(folder: Path, key: str) -> Mapping[str, Any]:
        from muppet_dag.training.job import Job

        work = store.workspace(key)
        job = Job(
            name=recipe.name, init=str(base.path), init_hash=base.version,
            mixture=str(mixture.path), mixture_hash=mixture.version,
            tasks=tuple(_files(store, recipe, tokens[name]) for name in sorted(tokens)),
            training=recipe.training, seed=recipe.seed, output=str(work),
        )  # fmt: skip
        job.write(work / "job.json")
        launch([work / "job.json"])
        _adopt(work / "model", folder)
        _adopt(work / "metrics.jsonl", folder / "metrics.jsonl")
        return {"recipe": recipe.name, "steps": mixture.facts["steps"], **last_metrics(work)}

    return store.build(
        f"prefinetuned/{recipe.name}", make,
        code_version=TRAINING_VERSION,
        inputs={base.manifest.name: base.version, mixture.manifest.name: mixture.version},
        parameters={"training": asdict(recipe.training), "seed": recipe.seed},
        volatile=("metrics.jsonl",),
    )  # fmt: skip


def finetune(
    store: Store, recipe: Recipe, default_base: str, initialisation: str, task: str, launch: Launch
) -> Artefact:
    """Fine-tune one task from one initialisation, once per seed, all in one training process.

    The artefact holds every seed's predictions on the validation split and the first seed's model.
    """
    init = initial_model(store, recipe, default_base, initialisation)
    tokens = store.require(tokens_name(recipe, default_base, task))
    settings = recipe.finetune
    if absent := {"train", "validation"} - set(tokens.facts["splits"]):
        raise MuppetError(
            f"task {task!r} has no rows in {' and '.join(sorted(absent))} in this source, and "
            f"fine-tuning needs both. Take it out of finetune.tasks of recipe {recipe.name!r}."
        )

    def make(folder: Path, key: str) -> Mapping[str, Any]:
        work = store.workspace(key)
        jobs = [
            _finetune_job(store, recipe, init, tokens, initialisation, seed, work / f"seed-{seed}")
            for seed in settings.seeds
        ]
        launch(jobs)
        for seed in settings.seeds:
            done = work / f"seed-{seed}"
            for file in ("predictions.arrow", "metrics.jsonl"):
                _adopt(done / file, folder / f"seed-{seed}" / file)
        _adopt(work / f"seed-{settings.seeds[0]}" / "model", folder)
        facts = {"task": task, "initialisation": initialisation, "recipe": recipe.name}
        return {**facts, "seeds": list(settings.seeds)}

    return store.build(
        f"finetuned/{initialisation}/{task}", make,
        code_version=TRAINING_VERSION,
        inputs={init.manifest.name: init.version, tokens.manifest.name: tokens.version},
        parameters=asdict(settings),
        volatile=tuple(f"seed-{seed}/metrics.jsonl" for seed in settings.seeds),
    )  # fmt: skip


def _finetune_job(
    store: Store,
    recipe: Recipe,
    init: Artefact,
    tokens: Artefact,
    initialisation: str,
    seed: int,
    work: Path,
) -> Path:
    """Write the job of one seed: the order of rows and a fresh head come from the seed."""
    from muppet_dag.mixture import index
    from muppet_dag.training.job import Job, Prediction

    settings: FinetuneSection = recipe.finetune
    files = _files(store, recipe, tokens)
    work.mkdir(parents=True, exist_ok=True)
    index.build({files.name: index.Sizes.read(tokens.path)}, settings.mixture, seed, work)
    spec = {
        **asdict(settings.mixture),
        "seed": seed,
        "tokens": tokens.version,
        "code": index.VERSION,
    }
    job = Job(
        name=f"{initialisation}/{files.name}/seed-{seed}",
        init=str(init.path), init_hash=init.version,
        mixture=str(work), mixture_hash=digest(spec), tasks=(files,),
        training=settings.training, seed=seed, output=str(work),
        predict=Prediction(task=files.name, split="validation", rows=settings.evaluation_rows),
    )  # fmt: skip
    job.write(work / "job.json")
    return work / "job.json"


def initial_model(store: Store, recipe: Recipe, default_base: str, initialisation: str) -> Artefact:
    """The model that an initialisation starts from."""
    if initialisation.endswith(BASE):
        return store.require(f"base/{slug(recipe.base(default_base))}")
    return store.require(f"prefinetuned/{recipe.name}")


def evaluate(store: Store, initialisation: str, task: Task) -> Artefact:
    """Score the predictions of all seeds with the task's own metrics."""
    from muppet_dag.evaluation.metrics import score

    tuned = store.require(f"finetuned/{initialisation}/{task.name}")

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        records = []
        for seed in tuned.facts["seeds"]:
            made = Predictions.read(tuned.path / f"seed-{seed}" / "predictions.arrow")
            values = score(task.family, task.metrics, made.predicted, made.gold, made.groups)
            records += [
                {"seed": seed, "metric": metric, "value": value, "rows": len(made.ids)}
                for metric, value in values.items()
            ]
        (folder / "scores.json").write_text(json.dumps(records, indent=1))
        said = {key: tuned.facts[key] for key in ("recipe", "initialisation", "task")}
        return {**said, "family": task.family, "scores": records}

    return store.build(
        f"evaluation/{initialisation}/{task.name}", make,
        code_version=EVALUATION_VERSION,
        inputs={tuned.manifest.name: tuned.version}, parameters={"metrics": list(task.metrics)},
    )  # fmt: skip


def make_leaderboard(store: Store, recipes: Iterable[Recipe]) -> Artefact:
    """Base against pre-finetuned over all evaluations there are: tables and a picture."""
    from muppet_dag.evaluation import leaderboard

    names = [
        f"evaluation/{initialisation}/{task}"
        for recipe in recipes
        for initialisation in initialisations(recipe)
        for task in recipe.finetune.tasks
    ]
    found = [artefact for name in names if (artefact := store.current(name))]
    if not found:
        raise MuppetError("no evaluation has been made yet; materialize evaluations first")

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        records = [score for artefact in found for score in _scores(artefact, leaderboard.Score)]
        leaderboard.write(records, folder)
        return {"evaluations": len(found), "scores": len(records)}

    return store.build(
        "leaderboard/all", make,
        code_version=EVALUATION_VERSION,
        inputs={artefact.manifest.name: artefact.version for artefact in found},
        volatile=("leaderboard.duckdb",),
    )  # fmt: skip


def _scores(artefact: Artefact, kind: type) -> list[Any]:
    facts = artefact.facts
    said = {key: facts[key] for key in ("recipe", "task", "family")}
    said["initialisation"] = "base" if facts["initialisation"].endswith(BASE) else "pre-finetuned"
    return [kind(**said, **score) for score in facts["scores"]]


def head_spec(task: Task) -> HeadSpec:
    """The head that serves a task (Muppet 3.1: one per classification task, else one a family)."""
    kinds: dict[str, Kind] = {
        "commonsense": "ranking",
        "mrc": "span",
        "summarization": "generation",
    }
    if task.family == "classification":
        kind: Kind = "regression" if task.regression else "classification"
        return HeadSpec(task.head, kind, 1 if task.regression else len(task.classes))
    return HeadSpec(task.head, kinds[task.family])


def _files(store: Store, recipe: Recipe, tokens: Artefact) -> TaskFiles:
    """What a training process needs to know of a task, at the versions of these tokens."""
    task = catalogue.get(tokens.manifest.name.rsplit("/", 1)[1])
    shards = store.open(f"shards/{task.name}", tokens.manifest.inputs[f"shards/{task.name}"])
    return TaskFiles(
        name=task.name, family=task.family, head=head_spec(task), metrics=task.metrics,
        tokens=str(tokens.path), shards=str(shards.path),
        unanswerable=any(s.get("unanswerable", 0) for s in shards.facts["splits"].values()),
        longest_target=recipe.model.max_target_length,
    )  # fmt: skip


def last_metrics(folder: Path) -> dict[str, Any]:
    """The last value of every metric in a run's ``metrics.jsonl``."""
    said: dict[str, Any] = {}
    for line in (Path(folder) / "metrics.jsonl").read_text().splitlines():
        said |= json.loads(line)
    said.pop("step", None)
    said.pop("train/tokens_per_second", None)  # a timing is no fact of the artefact
    return {"metrics": said}


def _adopt(source: Path, target: Path) -> None:
    """Put finished files into an artefact by hard link: the work folder stays usable until it is
    committed, and nothing is copied."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


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
    store = Store(home or os.environ.get("MUPPET_HOME", "~/.muppet-dag"))
    where = open_source(source or os.environ.get("MUPPET_SOURCE", "hub"), store)
    artefact = make_shards(store, where, catalogue.get(name))
    return {split: shards.read(artefact.path, split) for split in shards.splits(artefact.path)}
