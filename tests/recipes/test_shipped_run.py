"""Every shipped recipe runs on samples, with a tiny model and few rows, else as it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from workbench import LENGTHS, Workbench

from muppet_dag import catalogue, pipeline, recipes
from muppet_dag.model.multitask import saved_heads
from muppet_dag.recipes import Recipe, TasksSection
from muppet_dag.store import Artefact
from muppet_dag.training.__main__ import run
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job

SHIPPED = sorted(path.stem for path in recipes.SHIPPED.glob("*.toml"))
#: Rows of each task, so that no two strategies come to the same; with LIMIT as T5's K.
ROWS = {"sst2": 64, "rte": 32, "stsb": 16, "commonsense_qa": 16, "squad": 16, "squad_v2": 16}
LIMIT = 24


def small(name: str) -> Recipe:
    """A shipped recipe with a tiny model, few rows and an epoch over them; the rest stands."""
    recipe = recipes.get(name)
    summaries = recipe.model.architecture == "encoder-decoder"
    caps = {**ROWS, "aeslc": 16} if summaries else ROWS
    spec = recipe.mixture
    return replace(
        recipe,
        model=replace(recipe.model, base="tiny-bart" if summaries else "tiny-bert", **LENGTHS),
        tasks=TasksSection(families=(), include=tuple(caps)),
        mixture=replace(
            spec, slot_tokens=1024, slot_rows=8, slots_per_step=min(4, spec.slots_per_step),
            bucket_slots=4, steps=None, epochs=1, caps=caps,
            limit=LIMIT if spec.strategy == "proportional" else spec.limit,
        ),
        training=replace(recipe.training, validation_rows=8, log_every=1),
        finetune=replace(
            recipe.finetune, tasks=("rte",), seeds=(1,), evaluation_rows=8,
            mixture=replace(recipe.finetune.mixture, steps=2, epochs=None),
        ),
    )  # fmt: skip


def launch(jobs: Sequence[Path]) -> None:
    for path in jobs:
        run(Job.read(path), Group(0, 1, torch.device("cpu")))


@pytest.fixture(scope="module")
def ready(bench: Workbench) -> Workbench:
    """Tokens of every task for both tiny models, and the overlap report that mixtures ask for."""
    for name in ROWS:
        bench.tokens(name, "tiny-bert")
    for name in (*ROWS, "aeslc"):
        bench.tokens(name, "tiny-bart")
    pipeline.make_overlap(bench.store)
    return bench


def steps(mixture: Artefact) -> list[list[str]]:
    """The tasks of each step, one for each slot."""
    table = pa.ipc.open_file(mixture.path / "mixture.arrow").read_all()
    slots = dict.fromkeys(
        zip(*(table[c].to_pylist() for c in ("step", "slot", "task")), strict=True)
    )
    return [[task for *_, task in group] for _, group in groupby(slots, lambda slot: slot[0])]


def expected(recipe: Recipe, pool: dict[str, int]) -> dict[str, float]:
    """A task's share of the rows as T5 3.5.2 and Muppet 3.4 put it."""
    spec = recipe.mixture
    rates = {
        "natural": lambda e: e,
        "equal": lambda e: 1,
        "proportional": lambda e: min(e, spec.limit),
        "temperature": lambda e: min(e, spec.limit) ** (1 / spec.temperature),
    }
    rate_by_task = {task: rates[spec.strategy](rows) for task, rows in pool.items()}
    return {task: rate / sum(rate_by_task.values()) for task, rate in rate_by_task.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_runs_as_it_says(ready, name):
    recipe = small(name)
    mixture = pipeline.make_mixture(ready.store, recipe, "tiny-bert")
    model = pipeline.prefinetune(ready.store, recipe, "tiny-bert", launch)

    tasks = set(recipe.tasks.include)
    seen, facts = steps(mixture), mixture.facts
    assert set(facts["decontaminated"]) == tasks and not facts["left_out"]
    pool = {t: facts["rows_by_task"][t] / facts["passes"][t] for t in tasks}
    # A task's share is met as nearly as whole slots of at most eight rows allow.
    for task, share in expected(recipe, pool).items():
        assert facts["shares"][task] == pytest.approx(share, abs=5 / facts["rows"]), task
    alone = [len(set(step)) == 1 for step in seen]
    assert all(alone) == (recipe.mixture.batching != "heterogeneous")
    runs = [task for task, _ in groupby(step[0] for step in seen)]
    assert (len(runs) == len(tasks)) == (recipe.mixture.batching == "sequential")

    lines = [json.loads(line) for line in (model.path / "metrics.jsonl").read_text().splitlines()]
    losses = {key: row[key] for row in reversed(lines) for key in row if "train/loss" in key}
    assert {f"train/loss/{task}" for task in tasks} < set(losses)
    assert all(math.isfinite(loss) for loss in losses.values())
    # A span among a hundred places costs about log 100 before it is learnt, or 1 where scaled.
    assert (losses["train/loss/squad"] > 2) == (not recipe.training.loss_scaling)
    heads = {pipeline.head_spec(catalogue.get(task)).name for task in tasks}
    assert {head.name for head in saved_heads(model.path)} == heads


def test_recipes_that_fine_tune_alike_share_a_baseline_that_is_made_and_scored_once(ready):
    launched: list[str] = []

    def counting(jobs: Sequence[Path]) -> None:
        launched.extend(Job.read(path).name for path in jobs)
        launch(jobs)

    sharing = [small(name) for name in ("muppet", "muppet-r4f", "t5-equal")]
    for recipe in sharing:
        baseline, _ = pipeline.arms(recipe, "tiny-bert")
        tuned = pipeline.finetune(ready.store, baseline, "rte", counting)
        scored = pipeline.evaluate(ready.store, baseline, catalogue.get("rte"))
        assert (tuned.fresh, scored.fresh) == (recipe is sharing[0],) * 2
    assert len(launched) == 1
    assert rows_of_leaderboard(ready, sharing) == {("muppet", False)}, "not once for each recipe"

    last = sharing[-1]
    pipeline.make_mixture(ready.store, last, "tiny-bert")
    pipeline.prefinetune(ready.store, last, "tiny-bert", launch)
    _, own = pipeline.arms(last, "tiny-bert")
    pipeline.finetune(ready.store, own, "rte", launch)
    pipeline.evaluate(ready.store, own, catalogue.get("rte"))
    assert rows_of_leaderboard(ready, sharing) == {("t5-equal", True)}


def rows_of_leaderboard(bench: Workbench, compared: list[Recipe]) -> set[tuple[str, bool]]:
    """(recipe, whether both sides are there) of each row."""
    board = pipeline.make_leaderboard(bench.store, compared, "tiny-bert")
    rows = pq.read_table(board.path / "leaderboard.parquet").to_pylist()
    assert all(row["base_mean"] is not None for row in rows)
    return {(row["recipe"], row["prefinetuned_mean"] is not None) for row in rows}
