"""From predictions to the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muppet_dag.catalogue import Task
from muppet_dag.errors import MuppetError
from muppet_dag.evaluation.predictions import Predictions
from muppet_dag.pipeline.arm import Arm, arms
from muppet_dag.recipes import Recipe
from muppet_dag.store import Artefact, Store

#: Raise when the same predictions would be scored otherwise.
EVALUATION_VERSION = "3"


def evaluate(store: Store, arm: Arm, task: Task) -> Artefact:
    """Score the predictions of all seeds with the task's own metrics."""
    from muppet_dag.evaluation.metrics import score

    tuned = store.require(arm.finetuned(task.name))

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
        return {"arm": arm.name, "task": task.name, "family": task.family, "scores": records}

    return store.build(
        arm.evaluation(task.name), make,
        code_version=EVALUATION_VERSION,
        inputs={tuned.manifest.name: tuned.version}, parameters={"metrics": list(task.metrics)},
    )  # fmt: skip


def make_leaderboard(store: Store, recipes: Iterable[Recipe], default_base: str) -> Artefact:
    """Base against pre-finetuned over all evaluations there are: tables and a picture."""
    from muppet_dag.evaluation import leaderboard

    compared = _compared(store, recipes, default_base)
    if not compared:
        raise MuppetError("no evaluation has been made yet; materialize evaluations first")
    evaluations = {each.manifest.name: each.version for _, _, each in compared}

    def make(folder: Path, _key: str) -> Mapping[str, Any]:
        records = [
            leaderboard.Score(
                recipe=recipe, initialisation=side, task=each.facts["task"],
                family=each.facts["family"], **score,
            )
            for recipe, side, each in compared
            for score in each.facts["scores"]
        ]  # fmt: skip
        leaderboard.write(records, folder)
        return {"evaluations": len(evaluations), "scores": len(records)}

    return store.build(
        "leaderboard/all", make,
        code_version=EVALUATION_VERSION,
        inputs=evaluations,
        # A baseline is one evaluation, and stands beside each recipe that it is for.
        parameters={"compared": [[recipe, each.manifest.name] for recipe, _, each in compared]},
        volatile=("leaderboard.duckdb",),
    )  # fmt: skip


def _compared(
    store: Store, recipes: Iterable[Recipe], default_base: str
) -> list[tuple[str, str, Artefact]]:
    """(recipe, side, evaluation) of the recipes whose own model was scored. A baseline that was
    scored alone stands under the first recipe that it is for, and not under all of them."""

    def scored(arm: Arm) -> list[tuple[str, str, Artefact]]:
        found = map(store.current, map(arm.evaluation, arm.recipe.finetune.tasks))
        return [(arm.recipe.name, arm.side, each) for each in found if each]

    pairs = [(base, scored(base), scored(own)) for base, own in (
        arms(recipe, default_base) for recipe in recipes
    )]  # fmt: skip
    out, shown = [], set()
    for base, of_base, of_own in sorted(pairs, key=lambda pair: not pair[2]):
        if of_own or base.name not in shown:
            out += of_base + of_own
            shown |= {base.name} if of_base else set()
    return out
