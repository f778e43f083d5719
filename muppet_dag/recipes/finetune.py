"""The tables of a recipe that say how each downstream task is fine-tuned and predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from muppet_dag.recipes.section import MOST, Section, bounded
from muppet_dag.recipes.sections import MixtureSection, TrainingSection


@dataclass(frozen=True, kw_only=True)
class FinetuneMixtureSection(MixtureSection):
    """How the rows of one downstream task become slots and steps.

    Nothing is left out, since benchmarks are scored on models tuned on the training split as it
    was published; scores with fewer rows would compare with nobody's.
    """

    decontaminate: bool = False

    def problems(self) -> Iterator[str]:
        """As of any mixture; decontamination besides."""
        yield from super().problems()
        if self.decontaminate:
            yield "decontaminate is for [mixture] alone; fine-tuning takes the rows as they are"


@dataclass(frozen=True, kw_only=True)
class GenerationSection(Section):
    """How a fine-tuned model writes summaries. What is not given is the base model's own choice,
    as its ``generation_config.json`` has it.

    ``beams`` 1 is greedy. Scores of whole summaries are their log probability over length to the
    power ``length_penalty``: above 0 longer ones gain. ``min_length`` and ``max_length`` count
    tokens, the one that ends a summary apart; without the latter it is ``model.max_target_length``.
    No ``no_repeat_ngram_size`` tokens in a row come twice (0: they may).
    """

    beams: int | None = None
    length_penalty: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    no_repeat_ngram_size: int | None = None
    positive = ("beams", "max_length")
    not_negative = ("min_length", "no_repeat_ngram_size")

    def problems(self) -> Iterator[str]:
        """As of any section; keys that contradict each other."""
        yield from super().problems()
        yield from bounded("length_penalty", self.length_penalty, least=-MOST)
        if self.max_length is not None and (self.min_length or 0) > self.max_length:
            yield f"min_length {self.min_length} is more than max_length {self.max_length}"
        if self.beams == 1 and self.length_penalty is not None:
            yield "length_penalty does nothing with beams = 1; remove one of them"

    def over(self, below: GenerationSection) -> GenerationSection:
        """These settings, and those of ``below`` where they say nothing."""
        return replace(below, **{k: v for k, v in asdict(self).items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class FinetuneSection(Section):
    """Fine-tuning of each downstream task, the same for both initialisations.

    ``generation`` is how summaries are written, ``generations`` what a task has otherwise.
    """

    tasks: tuple[str, ...] = ("rte",)
    seeds: tuple[int, ...] = (1, 2, 3)
    evaluation_rows: int = 100_000
    mixture: FinetuneMixtureSection = field(
        default_factory=lambda: FinetuneMixtureSection(
            slot_rows=32, slot_tokens=16_384, slots_per_step=1, epochs=3
        )
    )
    training: TrainingSection = field(default_factory=TrainingSection)
    generation: GenerationSection = field(default_factory=GenerationSection)
    generations: Mapping[str, GenerationSection] = field(default_factory=dict)
    positive = ("evaluation_rows",)
    unique = ("tasks", "seeds")
    filled = ("tasks", "seeds")

    def problems(self) -> Iterator[str]:
        """As of any section; seeds, and how summaries of each task are written."""
        yield from super().problems()
        for seed in self.seeds:
            yield from bounded("seeds", seed, least=0)
        for task in self.generations:
            try:
                self.generation_of(task)
            except ValueError as error:
                yield f"generations.{task}: {error}"

    def generation_of(self, task: str) -> GenerationSection:
        """How summaries of a task are written."""
        return self.generations.get(task, GenerationSection()).over(self.generation)
