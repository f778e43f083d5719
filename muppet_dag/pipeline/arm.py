"""Arms: what is compared downstream."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from muppet_dag import catalogue
from muppet_dag.pipeline.data import tokens_name
from muppet_dag.recipes import Recipe, slug
from muppet_dag.store import digest


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the model that fine-tuning starts from, and how it is tuned.

    A baseline starts from a base model as it is and belongs to every recipe that fine-tunes that
    model alike, so it is made once for all of them; ``recipe`` is any of these. Otherwise it starts
    from the model that ``recipe`` has pre-finetuned. Whatever else may tell two arms apart one day
    (a part of the training rows, say) is one more field, and a part of ``name`` and ``settings``.
    """

    recipe: Recipe
    default_base: str
    baseline: bool

    @cached_property
    def name(self) -> str:
        """Its partition key. A recipe's name has no dot, so that no baseline is taken for one;
        the hash tells apart other lengths and other ways to fine-tune, and stays as it is whichever
        other recipes there are."""
        if not self.baseline:
            return self.recipe.name
        return f"base.{self.title}-{digest([self._tokenizer, self._tuning])[:8]}"

    @property
    def title(self) -> str:
        """As people call it: the base model's name, or the recipe's."""
        return slug(self._base) if self.baseline else self.recipe.name

    @property
    def side(self) -> str:
        """Which side of the leaderboard it stands on."""
        return "base" if self.baseline else "pre-finetuned"

    @property
    def start(self) -> str:
        """Where the model lies that it starts from."""
        return f"base/{slug(self._base)}" if self.baseline else f"prefinetuned/{self.recipe.name}"

    def tokens(self, task: str) -> str:
        """Where a task's tokens lie."""
        return tokens_name(self.recipe, self.default_base, task)

    def finetuned(self, task: str) -> str:
        """Where a task's fine-tuned models lie; those of a baseline are no recipe's own."""
        if not self.baseline:
            return f"finetuned/{self.recipe.name}.pre/{task}"
        return f"finetuned/{self._tokenizer}-{digest(self.settings(task))[:12]}.base/{task}"

    def evaluation(self, task: str) -> str:
        """Where a task's scores lie."""
        return f"evaluation/{self.name}/{task}"

    def settings(self, task: str) -> dict[str, Any]:
        """What decides a fine-tuned model and its predictions, whichever other tasks are tuned
        beside it: the settings, and how rows are drawn, for which there is no mixture artefact to
        name."""
        from muppet_dag.mixture import index

        settings = self._tuning
        for key in ("generation", "generations"):
            del settings[key]
        if catalogue.get(task).family == "summarization":
            settings["generation"] = asdict(self.recipe.finetune.generation_of(task))
        return {**settings, "mixture_version": index.VERSION}

    @property
    def _base(self) -> str:
        return self.recipe.base(self.default_base)

    @property
    def _tokenizer(self) -> str:
        return self.recipe.tokenizer(self.default_base)

    @property
    def _tuning(self) -> dict[str, Any]:
        """The recipe's way to fine-tune, whichever tasks."""
        finetune = self.recipe.finetune
        settings = {**asdict(finetune), "training": finetune.training.decides}
        del settings["tasks"]
        return settings


def arms(recipe: Recipe, default_base: str) -> tuple[Arm, Arm]:
    """What a recipe compares: fine-tuned from the base model, and from the pre-finetuned one."""
    return Arm(recipe, default_base, baseline=True), Arm(recipe, default_base, baseline=False)
