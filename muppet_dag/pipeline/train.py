"""From a mixture to models: pre-finetuning, and fine-tuning of both arms."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muppet_dag import catalogue
from muppet_dag.catalogue import Task
from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.files import read_json
from muppet_dag.model.spec import HeadSpec, Kind
from muppet_dag.pipeline.arm import Arm
from muppet_dag.pipeline.coverage import require_coverage
from muppet_dag.recipes import Recipe, slug
from muppet_dag.store import Artefact, Store, digest
from muppet_dag.training.launch import TRACKED

if TYPE_CHECKING:
    from muppet_dag.training.launch import Launch

#: Raise when the same inputs would train to other weights.
TRAINING_VERSION = "3"


def prefinetune(store: Store, recipe: Recipe, default_base: str, launch: Launch) -> Artefact:
    """Train the base model on the mixture; resumes from its last checkpoint after a kill.

    MuppetError if the mixture lacks more of its tasks than the recipe allows.
    """
    base = store.require(f"base/{slug(recipe.base(default_base))}")
    mixture = store.require(f"mixture/{recipe.name}")
    require_coverage(mixture, recipe)
    names = [name for name in mixture.manifest.inputs if name.startswith("tokens/")]
    tokens = {
        name.rsplit("/", 1)[1]: store.open(name, mixture.manifest.inputs[name]) for name in names
    }

    def make(folder: Path, key: str) -> Mapping[str, Any]:
        from muppet_dag.training.job import Job

        work = store.workspace(key, f"prefinetuned/{recipe.name}")
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
        return {"recipe": recipe.name, **run_facts(work)}

    return store.build(
        f"prefinetuned/{recipe.name}", make,
        code_version=TRAINING_VERSION,
        inputs={base.manifest.name: base.version, mixture.manifest.name: mixture.version},
        parameters={"training": recipe.training.decides, "seed": recipe.seed},
        volatile=("metrics.jsonl",), reads=_read(store, tokens.values()),
    )  # fmt: skip


def finetune(store: Store, arm: Arm, task: str, launch: Launch) -> Artefact:
    """Fine-tune one arm on one task, once per seed, all in one training process.

    The artefact holds every seed's predictions on the validation split and the first seed's model.
    """
    init, tokens = store.require(arm.start), store.require(arm.tokens(task))
    settings = arm.recipe.finetune
    if absent := {"train", "validation"} - set(tokens.facts["splits"]):
        raise MuppetError(
            f"task {task!r} has no rows in {' and '.join(sorted(absent))} in this source, and "
            f"fine-tuning needs both. Take it out of finetune.tasks of recipe {arm.recipe.name!r}."
        )

    def make(folder: Path, key: str) -> Mapping[str, Any]:
        work = store.workspace(key, arm.finetuned(task))
        jobs = [
            _finetune_job(store, arm, init, tokens, seed, work / f"seed-{seed}")
            for seed in settings.seeds
        ]
        launch(jobs)
        for seed in settings.seeds:
            done = work / f"seed-{seed}"
            for file in ("predictions.arrow", "metrics.jsonl"):
                _adopt(done / file, folder / f"seed-{seed}" / file)
        _adopt(work / f"seed-{settings.seeds[0]}" / "model", folder)
        facts = {"task": task, "initialisation": arm.start}
        runs = {str(seed): run_facts(work / f"seed-{seed}") for seed in settings.seeds}
        return {**facts, "seeds": list(settings.seeds), "runs": runs}

    return store.build(
        arm.finetuned(task), make,
        code_version=TRAINING_VERSION,
        inputs={init.manifest.name: init.version, tokens.manifest.name: tokens.version},
        parameters=arm.settings(task),
        volatile=tuple(f"seed-{seed}/metrics.jsonl" for seed in settings.seeds),
        reads=_read(store, [tokens]),
    )  # fmt: skip


def _finetune_job(
    store: Store, arm: Arm, init: Artefact, tokens: Artefact, seed: int, work: Path
) -> Path:
    """Write the job of one seed: the order of rows and a fresh head come from the seed."""
    from muppet_dag.mixture import index
    from muppet_dag.training.job import Job, Prediction

    settings = arm.recipe.finetune
    files = _files(store, arm.recipe, tokens)
    work.mkdir(parents=True, exist_ok=True)
    index.build({files.name: index.Sizes.read(tokens.path)}, settings.mixture, seed, work)
    spec = {
        **asdict(settings.mixture),
        "seed": seed,
        "tokens": tokens.version,
        "code": index.VERSION,
    }
    job = Job(
        name=f"{arm.name}/{files.name}/seed-{seed}",
        init=str(init.path), init_hash=init.version,
        mixture=str(work), mixture_hash=digest(spec), tasks=(files,),
        training=settings.training, seed=seed, output=str(work),
        predict=Prediction(
            task=files.name, split="validation", rows=settings.evaluation_rows,
            generation=settings.generation_of(files.name),
        ),
    )  # fmt: skip
    job.write(work / "job.json")
    return work / "job.json"


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


def _read(store: Store, tokens: Iterable[Artefact]) -> Iterator[Artefact]:
    """What a training process reads of tasks: their tokens and the shards below them."""
    for each in tokens:
        yield each
        yield _shards(store, each)


def _shards(store: Store, tokens: Artefact) -> Artefact:
    """The shards that tokens were made of."""
    name = f"shards/{tokens.manifest.name.rsplit('/', 1)[1]}"
    return store.open(name, tokens.manifest.inputs[name])


def _files(store: Store, recipe: Recipe, tokens: Artefact) -> TaskFiles:
    """What a training process needs to know of a task, at the versions of these tokens."""
    task = catalogue.get(tokens.manifest.name.rsplit("/", 1)[1])
    shards = _shards(store, tokens)
    return TaskFiles(
        name=task.name, family=task.family, head=head_spec(task), metrics=task.metrics,
        tokens=str(tokens.path), shards=str(shards.path),
        unanswerable=any(s.get("unanswerable", 0) for s in shards.facts["splits"].values()),
        longest_target=recipe.model.max_target_length,
    )  # fmt: skip


def run_facts(folder: Path) -> dict[str, Any]:
    """What a finished run says of itself: the steps it took, its choice of the best, and under
    ``metrics`` the last value of each metric, or of validation that of the chosen state; under
    ``tracked`` where it was followed, a place for each time that it was started."""
    facts = json.loads((Path(folder) / "run.json").read_text())
    if tracked := read_json(Path(folder) / TRACKED, list):
        facts["tracked"] = tracked
    chosen = facts.pop("chosen", {})
    metrics: dict[str, Any] = {}
    for line in (Path(folder) / "metrics.jsonl").read_text().splitlines():
        metrics |= json.loads(line)
    timed = ("step", "time/", "memory/", "train/tokens_per_second", "train/flops_utilisation")
    metrics = {name: v for name, v in metrics.items() if not name.startswith(timed)}
    return {**facts, "metrics": metrics | chosen}


def _adopt(source: Path, target: Path) -> None:
    """Put finished files into an artefact by hard link: the work folder stays usable until it is
    committed, and nothing is copied."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)
