"""Plan: which recipes there are, and how partitions of one floor map to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import dagster as dg

from muppet_dag import pipeline
from muppet_dag.errors import BadConfig
from muppet_dag.pipeline import Arm, arms
from muppet_dag.recipes import Recipe, slug


@dataclass(frozen=True)
class Plan:
    """All recipes of a deployment and the base model of those that name none."""

    recipes: Mapping[str, Recipe]
    default_base: str
    #: Recipes that cannot be used, and why: they have partitions that fail with that.
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, recipes: Mapping[str, Recipe], default_base: str, problems: Mapping[str, str]):
        """A plan of the recipes that go with the catalogue and with those before them; one that
        does not stops no other."""
        usable, problems = cls({}, default_base), dict(problems)
        for name, recipe in recipes.items():
            try:
                pipeline.select(recipe)
                usable = cls({**usable.recipes, name: recipe}, default_base)
            except BadConfig as error:
                problems[name] = str(error)
        return replace(usable, problems=problems)

    def recipe(self, name: str) -> Recipe:
        """The recipe of a partition. BadConfig if it cannot be used."""
        if name in self.problems:
            raise BadConfig(self.problems[name])
        return self.recipes[name]

    def __post_init__(self) -> None:
        """BadConfig where two recipes mean different base models by one partition key."""
        meant: dict[str, tuple[tuple[str, str], str]] = {}
        for recipe in self.recipes.values():
            model = (recipe.base(self.default_base), recipe.model.revision)
            first, name = meant.setdefault(self.base(recipe), (model, recipe.name))
            if model != first:
                raise BadConfig(
                    f"recipes {name!r} and {recipe.name!r} have different base models of one name: "
                    f"{' at '.join(first)} and {' at '.join(model)}; keep one of them here"
                )

    @property
    def by_recipe(self) -> dg.StaticPartitionsDefinition:
        """Mixtures and pre-finetuned models."""
        return dg.StaticPartitionsDefinition(sorted({*self.recipes, *self.problems}))

    @property
    def by_base(self) -> dg.StaticPartitionsDefinition:
        """Base models."""
        return dg.StaticPartitionsDefinition(sorted({self.base(r) for r in self.recipes.values()}))

    def base(self, recipe: Recipe) -> str:
        """Partition key of a recipe's base model."""
        return slug(recipe.base(self.default_base))

    def tokenizer(self, recipe: Recipe) -> str:
        """Partition key of a recipe's tokens."""
        return recipe.tokenizer(self.default_base)

    def with_tokenizer(self, key: str) -> Recipe:
        """A recipe whose tokens have that key; all such recipes tokenize alike."""
        return next(r for r in self.recipes.values() if self.tokenizer(r) == key)

    def with_base(self, key: str) -> Recipe:
        """A recipe that starts from the base model of that key."""
        return next(r for r in self.recipes.values() if self.base(r) == key)

    def tasks(self, recipe: Recipe) -> list[str]:
        """Every task a recipe reads, in its mixture or downstream."""
        return sorted({*pipeline.select(recipe), *recipe.finetune.tasks})

    def readers(self, task: str) -> list[Recipe]:
        """The recipes that read a task."""
        return self._readers.get(task, [])

    @cached_property
    def _readers(self) -> Mapping[str, list[Recipe]]:
        found: dict[str, list[Recipe]] = {}
        for recipe in self.recipes.values():
            for task in self.tasks(recipe):
                found.setdefault(task, []).append(recipe)
        return found

    @property
    def by_tokenizer(self) -> dg.StaticPartitionsDefinition:
        """Tokens. One definition for all tasks, so that one run can make a tokenizer's tokens."""
        return dg.StaticPartitionsDefinition(
            sorted({self.tokenizer(r) for r in self.recipes.values()})
        )

    @cached_property
    def arms(self) -> Mapping[str, Arm]:
        """What is compared downstream, by name: a baseline that recipes share is there once."""
        found: dict[str, Arm] = {}
        for recipe in self.recipes.values():
            for arm in arms(recipe, self.default_base):
                found.setdefault(arm.name, arm)
        return found

    @cached_property
    def downstream(self) -> Mapping[str, list[Arm]]:
        """The tasks that recipes fine-tune, each with the arms that are compared on it."""
        asked: dict[str, set[str]] = {}
        for recipe in self.recipes.values():
            names = {arm.name for arm in arms(recipe, self.default_base)}
            for task in recipe.finetune.tasks:
                asked.setdefault(task, set()).update(names)
        return {task: [self.arms[name] for name in sorted(asked[task])] for task in sorted(asked)}

    def sharing(self, arm: Arm) -> list[str]:
        """Names of the recipes that an arm belongs to."""
        return [
            name
            for name, recipe in self.recipes.items()
            if arm.name in {each.name for each in arms(recipe, self.default_base)}
        ]

    def by_arm(self, task: str) -> dg.StaticPartitionsDefinition:
        """Fine-tuned models and evaluations of a task: the arms that some recipe asks for, so that
        every partition there is can be made."""
        return dg.StaticPartitionsDefinition([arm.name for arm in self.downstream[task]])

    def base_to_tokens(self) -> dg.StaticPartitionMapping:
        """Base model to the tokens made with its tokenizer."""
        return _mapping((self.base(r), self.tokenizer(r)) for r in self.recipes.values())

    def tokens_to_recipe(self, task: str) -> dg.StaticPartitionMapping:
        """A task's tokens to the recipes that mix it."""
        return _mapping((self.tokenizer(r), r.name) for r in self.readers(task))

    def base_to_recipe(self) -> dg.StaticPartitionMapping:
        """Base model to the recipes that start from it."""
        return _mapping((self.base(r), r.name) for r in self.recipes.values())

    def base_to_arms(self, task: str) -> dg.StaticPartitionMapping:
        """Base model to the baselines that start from it."""
        baselines = [arm for arm in self.downstream[task] if arm.baseline]
        return _mapping((self.base(arm.recipe), arm.name) for arm in baselines)

    def recipe_to_arms(self, task: str) -> dg.StaticPartitionMapping:
        """Pre-finetuned model to the arm that starts from it."""
        own = [arm for arm in self.downstream[task] if not arm.baseline]
        return _mapping((arm.recipe.name, arm.name) for arm in own)

    def tokens_to_arms(self, task: str) -> dg.StaticPartitionMapping:
        """A task's tokens to the arms that are fine-tuned on them."""
        return _mapping((self.tokenizer(arm.recipe), arm.name) for arm in self.downstream[task])


def _mapping(pairs: Iterable[tuple[str, str]]) -> dg.StaticPartitionMapping:
    out: dict[str, list[str]] = {}
    for upstream, downstream in sorted(set(pairs)):
        out.setdefault(upstream, []).append(downstream)
    return dg.StaticPartitionMapping(out)
