"""From predictions to the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muppet_dag.catalogue import Task
from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predictions import Predictions
from muppet_dag.pipeline.train import BASE, finetuned_name, initialisations
from muppet_dag.recipes import Recipe
from muppet_dag.store import Artefact, Store

#: Raise when the same predictions would be scored otherwise.
EVALUATION_VERSION = "2"


def evaluate(
    store: Store, recipe: Recipe, default_base: str, initialisation: str, task: Task
) -> Artefact:
    """Score the predictions of all seeds with the task's own metrics."""
    from muppet_dag.evaluation.metrics import score

    tuned = store.require(finetuned_name(recipe, default_base, initialisation, task.name))

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        records = []
        for seed in tuned.facts["seeds"]:
            predictions = Predictions.read(tuned.path / f"seed-{seed}" / "predictions.arrow")
            values = score(
                task.family, task.metrics,
                predictions.predicted, predictions.gold, predictions.groups,
            )  # fmt: skip
            records += [
                {"seed": seed, "metric": metric, "value": value, "rows": len(predictions.ids)}
                for metric, value in values.items()
            ]
        (folder / "scores.json").write_text(json.dumps(records, indent=1))
        facts = {"recipe": recipe.name, "initialisation": initialisation, "task": task.name}
        return {**facts, "family": task.family, "scores": records}

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
    evaluations = [artefact for name in names if (artefact := store.current(name))]
    if not evaluations:
        raise MuppetError("no evaluation has been made yet; materialize evaluations first")

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        records = [
            score for artefact in evaluations for score in _scores(artefact, leaderboard.Score)
        ]
        leaderboard.write(records, folder)
        return {"evaluations": len(evaluations), "scores": len(records)}

    return store.build(
        "leaderboard/all", make,
        code_version=EVALUATION_VERSION,
        inputs={artefact.manifest.name: artefact.version for artefact in evaluations},
        volatile=("leaderboard.duckdb",),
    )  # fmt: skip


def _scores(artefact: Artefact, kind: type) -> list[Any]:
    facts = artefact.facts
    keys = {key: facts[key] for key in ("recipe", "task", "family")}
    keys["initialisation"] = "base" if facts["initialisation"].endswith(BASE) else "pre-finetuned"
    return [kind(**keys, **score) for score in facts["scores"]]
