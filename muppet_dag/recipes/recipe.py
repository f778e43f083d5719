"""Recipe: one TOML file is one experiment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from muppet_dag.errors import BadConfig
from muppet_dag.recipes.finetune import FinetuneSection
from muppet_dag.recipes.section import Section
from muppet_dag.recipes.sections import (
    MixtureSection,
    ModelSection,
    TasksSection,
    TrainingSection,
)


class Mixable(Protocol):
    """What selecting needs to know of a task of the catalogue."""

    @property
    def family(self) -> str: ...

    @property
    def held_out(self) -> bool: ...


#: What a recipe, and so its file, may be called.
NAME = re.compile(r"[a-z0-9][a-z0-9_\-]*")
NO_R4F = 'r4f normalises heads, and summarization has none; use "r3f"'


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """One experiment. ``name`` is the file's name and the partition key."""

    name: str
    description: str = ""
    seed: int = 1
    model: ModelSection = field(default_factory=ModelSection)
    tasks: TasksSection = field(default_factory=TasksSection)
    mixture: MixtureSection
    training: TrainingSection = field(default_factory=TrainingSection)
    finetune: FinetuneSection = field(default_factory=FinetuneSection)
    not_negative = ("seed",)

    def problems(self) -> Iterator[str]:
        """A bad name or seed, and what summarization cannot go with."""
        yield from super().problems()
        if not NAME.fullmatch(self.name):
            yield f"recipe name {self.name!r}: only a-z, 0-9, _ and - are allowed"
        generates = "summarization" in self.tasks.families
        if generates and self.model.architecture == "encoder":
            yield 'tasks.families: summarization needs model.architecture = "encoder-decoder"'
        if generates and self.training.regularizer == "r4f":
            yield f"training.regularizer: {NO_R4F}"
        yield from self._too_long()

    def _too_long(self) -> Iterator[str]:
        """Summaries that must be longer than they may."""
        most, finetune = self.model.max_target_length, self.finetune
        sections = {
            f"generations.{task}": finetune.generation_of(task) for task in finetune.generations
        }
        for key, section in {"generation": finetune.generation, **sections}.items():
            if section.max_length is None and (section.min_length or 0) > most:
                yield (
                    f"finetune.{key}: min_length {section.min_length} is more than "
                    f"model.max_target_length {most}; give max_length too"
                )

    def base(self, default: str) -> str:
        """The base model: the recipe's own, else the deployment's."""
        return self.model.base or default

    def tokenizer(self, default: str) -> str:
        """Key of the token artefacts this recipe reads: base model and lengths."""
        return "-".join([slug(self.base(default)), *map(str, self.model.lengths)])

    def select(self, catalogue: Mapping[str, Mixable]) -> list[str]:
        """Names of the tasks to mix, sorted. BadConfig for a task that is unknown, held out, or
        not to be trained in this way; all of them at once."""
        if problems := list(self._misnamed(catalogue)):
            raise BadConfig(f"recipe {self.name!r}: " + "; ".join(problems))
        mixable = {name: task for name, task in catalogue.items() if not task.held_out}
        families = {name for name, task in mixable.items() if task.family in self.tasks.families}
        chosen = (families | set(self.tasks.include)) - set(self.tasks.exclude)
        if problems := list(self._untrainable(catalogue, chosen)):
            raise BadConfig(f"recipe {self.name!r}: " + "; ".join(problems))
        return sorted(chosen)

    def _misnamed(self, catalogue: Mapping[str, Mixable]) -> Iterator[str]:
        """Tasks that a list names and that the catalogue lacks, or holds out of every mixture."""
        named = {
            "tasks.include": self.tasks.include,
            "tasks.exclude": self.tasks.exclude,
            "mixture.weights": self.mixture.weights,
            "mixture.caps": self.mixture.caps,
            "finetune.tasks": self.finetune.tasks,
            "finetune.generations": self.finetune.generations,
        }
        for key, names in named.items():
            yield from (f"{key}: unknown task {n!r}" for n in names if n not in catalogue)
        for name in self.finetune.generations:
            if name in catalogue and catalogue[name].family != "summarization":
                yield f"finetune.generations: task {name!r} is no summarization task"
        for name in self.tasks.include:
            if name in catalogue and catalogue[name].held_out:
                yield (
                    f"tasks.include: task {name!r} is for evaluation only, never for "
                    "pre-finetuning; take it out (finetune.tasks may name it)"
                )

    def _untrainable(self, catalogue: Mapping[str, Mixable], chosen: set[str]) -> Iterator[str]:
        """Summarization tasks where the model or the regularizer cannot take them."""
        generating = {name for name, task in catalogue.items() if task.family == "summarization"}
        for name in sorted((chosen | set(self.finetune.tasks)) & generating):
            if self.model.architecture == "encoder":
                yield (
                    f"task {name!r} is a summarization task, which needs "
                    'model.architecture = "encoder-decoder"'
                )
        downstream = self.finetune
        for key, training, names in (
            ("training", self.training, chosen),
            ("finetune.training", downstream.training, set(downstream.tasks)),
        ):
            if training.regularizer == "r4f" and generating & names:
                yield f"{key}.regularizer: {NO_R4F}"


def slug(base: str) -> str:
    """A base model's name as a path part and partition key: its last path part, lower-cased."""
    last = base.rstrip("/").rsplit("/", 1)[-1].lower()
    return re.sub(r"[^a-z0-9_.\-]+", "-", last).strip("-.") or "model"
