"""What the tests work on: samples of a few tasks, carried to shards and tokens; small jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muppet_dag import catalogue, pipeline
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.evaluation.predictions import TaskFiles
from muppet_dag.recipes import MixtureSection, ModelSection, Recipe, TrainingSection
from muppet_dag.samples import make as make_samples
from muppet_dag.store import Artefact, Store, digest

TASKS = ("sst2", "rte", "stsb", "commonsense_qa", "arc_easy", "squad", "squad_v2", "aeslc")
#: Windows of 128 tokens, so that one passage in twenty is too long for one.
LENGTHS = {"max_length": 128, "stride": 32, "max_target_length": 16}
SMALL = MixtureSection(slot_tokens=1024, slot_rows=8, slots_per_step=4, bucket_slots=4, steps=10)


def recipe(base: str) -> Recipe:
    """A recipe that names no tasks: only its base model and lengths count."""
    kind = "encoder-decoder" if base == "tiny-bart" else "encoder"
    model = ModelSection(base=base, architecture=kind, **LENGTHS)
    return Recipe(name=f"test-{Path(base).name}", model=model, mixture=SMALL)


@dataclass(frozen=True)
class Workbench:
    """A store with the samples of ``TASKS`` as shards, and what is made of them on demand."""

    store: Store
    raw: Path

    @classmethod
    def make(cls, folder: Path) -> Workbench:
        raw = make_samples(folder / "raw", train_rows=96, evaluation_rows=24, tasks=TASKS)
        store = Store(folder / "store")
        for name in TASKS:
            pipeline.make_shards(store, DirectorySource(raw), catalogue.get(name))
        return cls(store, raw)

    def base(self, base: str) -> Artefact:
        return pipeline.make_base(self.store, base)

    def shards(self, task: str) -> Artefact:
        return self.store.require(f"shards/{task}")

    def tokens(self, task: str, base: str = "tiny-bert") -> Artefact:
        self.base(base)
        return pipeline.make_tokens(self.store, recipe(base), base, catalogue.get(task))

    def files(self, name: str, base: str = "tiny-bert") -> TaskFiles:
        task = catalogue.get(name)
        return TaskFiles(
            name=name, family=task.family, head=pipeline.head_spec(task), metrics=task.metrics,
            tokens=str(self.tokens(name, base).path), shards=str(self.shards(name).path),
            unanswerable=name == "squad_v2", longest_target=LENGTHS["max_target_length"],
        )  # fmt: skip

    def job(
        self, output: Path, *names: str, base: str = "tiny-bert", init: Artefact | None = None,
        mixture: MixtureSection = SMALL, seed: int = 1, **training: Any,
    ):  # fmt: skip
        """A job over a fresh mixture of the named tasks; nothing is validated unless asked for."""
        from muppet_dag.mixture import index
        from muppet_dag.training.job import Job

        output.mkdir(parents=True, exist_ok=True)
        init, files = init or self.base(base), tuple(self.files(name, base) for name in names)
        index.build({f.name: index.Sizes.read(f.tokens) for f in files}, mixture, seed, output)
        quiet = {"validate_every": 10_000, "validation_rows": 4, "log_every": 1}
        settings = {"learning_rate": 1e-3, "checkpoint_every": 10_000, **quiet, **training}
        return Job(
            name="test", init=str(init.path), init_hash=init.version, mixture=str(output),
            mixture_hash=digest([vars(mixture), seed, [f.tokens for f in files]]),
            tasks=files, training=TrainingSection(**settings), seed=seed, output=str(output),
        )  # fmt: skip


def weights(folder: Path) -> dict[str, bytes]:
    """The bytes of every weight file of a model folder."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.safetensors"))}
