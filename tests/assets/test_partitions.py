"""Recipes become partitions: the shipped ones and a user's own beside them."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest

from assets.definitions import all_assets
from assets.partitions import Plan
from deployments.local.location import build
from deployments.local.settings import Settings
from muppet_dag import recipes
from muppet_dag.errors import BadConfig
from muppet_dag.pipeline import arms

BASE_MODEL = "FacebookAI/roberta-base"


def plan(folder: Path, **own: str) -> Plan:
    for name, text in own.items():
        (folder / f"{name}.toml").write_text(text)
    return Plan(recipes.load_all(folder), BASE_MODEL)


def test_own_recipes_are_partitions_beside_the_shipped_ones(tmp_path):
    chosen = plan(tmp_path, mine='extends = "muppet"\n[finetune]\ntasks = ["rte"]')
    keys = chosen.by_recipe.get_partition_keys()
    assert {"mine", "muppet", "t5-equal"} <= set(keys)
    tasks = {task for task, arms in chosen.downstream.items() if chosen.arms["mine"] in arms}
    assert tasks == {"rte"}
    defs = build(Settings(tmp_path, "samples", BASE_MODEL, tmp_path, workers=1))
    mixture = next(a for a in defs.assets if a.key.path == ["mixture"])
    assert mixture.partitions_def.get_partition_keys() == keys


def test_recipes_with_one_base_and_lengths_share_base_and_tokens(tmp_path):
    chosen = plan(tmp_path, mine='extends = "muppet"\n[model]\nmax_length = 256')
    names = ("muppet", "muppet-r3f", "t5-equal", "mtdnn")
    assert {chosen.tokenizer(chosen.recipes[n]) for n in names} == {"roberta-base-512-128-128"}
    assert chosen.tokenizer(chosen.recipes["mine"]) == "roberta-base-256-64-128"
    assert chosen.base(chosen.recipes["mine"]) == chosen.base(chosen.recipes["muppet"])


def baselines(chosen: Plan, *names: str) -> dict[str, str]:
    """The baseline of each recipe."""
    return {name: arms(chosen.recipes[name], BASE_MODEL)[0].name for name in names}


OWN = {
    "tasks": 'extends = "muppet"\n[finetune]\ntasks = ["rte"]',
    "aside": 'extends = "muppet"\n[finetune.training]\nlog_every = 1',
    "rate": 'extends = "muppet"\n[finetune.training]\nlearning_rate = 2e-5',
    "seeds": 'extends = "muppet"\n[finetune]\nseeds = [1]',
    "steps": 'extends = "muppet"\n[finetune.mixture]\nsteps = 9',
    "length": 'extends = "muppet"\n[model]\nmax_length = 256',
    "other": 'extends = "muppet"\n[model]\nbase = "FacebookAI/roberta-large"',
}


def test_a_baseline_is_shared_where_base_and_fine_tuning_are_the_same(tmp_path):
    chosen = plan(tmp_path, **OWN)
    where = baselines(chosen, *OWN, "muppet", "muppet-r3f")
    same = {"muppet", "muppet-r3f", "tasks", "aside"}
    assert {where[name] for name in same} == {where["muppet"]}
    assert len(set(where.values())) == 1 + len(where) - len(same)
    assert set(chosen.sharing(chosen.arms[where["muppet"]])) > same
    assert all(re.fullmatch(r"base\.roberta-(base|large)-[0-9a-f]{8}", v) for v in where.values())


def test_an_arm_is_called_the_same_whichever_other_recipes_there_are(tmp_path):
    (tmp_path / "own").mkdir()
    assert set(plan(tmp_path).arms) < set(plan(tmp_path / "own", **OWN).arms)


def test_a_pre_finetuned_model_is_never_shared(tmp_path):
    chosen = plan(tmp_path).recipes.values()
    where = {arms(recipe, BASE_MODEL)[1].finetuned("rte") for recipe in chosen}
    assert len(where) == len(chosen)


def test_what_is_compared_is_there_once_and_only_where_a_recipe_asks_for_it(tmp_path):
    chosen = plan(tmp_path, **OWN)
    asked = {
        (task, arm.name)
        for recipe in chosen.recipes.values()
        for arm in arms(recipe, BASE_MODEL)
        for task in recipe.finetune.tasks
    }
    keys = [(t, key) for t in chosen.downstream for key in chosen.by_arm(t).get_partition_keys()]
    assert sorted(asked) == sorted(keys)
    assets = {a.key.to_user_string(): a for a in all_assets(chosen)}
    for task in chosen.downstream:
        for floor in ("finetuned", "evaluation"):
            assert assets[f"{floor}/{task}"].partitions_def == chosen.by_arm(task)


@pytest.mark.parametrize("floor", ["base_model", "prefinetuned", "tokens"])
def test_a_new_version_concerns_exactly_the_arms_that_read_it(tmp_path, floor):
    chosen = plan(tmp_path, **OWN)
    for task, compared in chosen.downstream.items():
        upstream, mapping, read = {
            "base_model": (chosen.by_base, chosen.base_to_arms(task), "base/{}"),
            "prefinetuned": (chosen.by_recipe, chosen.recipe_to_arms(task), "prefinetuned/{}"),
            "tokens": (chosen.by_tokenizer, chosen.tokens_to_arms(task), f"tokens/{{}}/{task}"),
        }[floor]
        for key in upstream.get_partition_keys():
            subset = mapping.get_downstream_partitions_for_partitions(
                upstream.subset_with_partition_keys([key]), upstream, chosen.by_arm(task)
            )
            expected = {a.name for a in compared if read.format(key) in (a.start, a.tokens(task))}
            assert set(subset.get_partition_keys()) == expected


def test_a_pair_that_no_recipe_asks_for_is_refused_in_one_line(tmp_path):
    defs = build(Settings(tmp_path, "samples", BASE_MODEL, None, workers=1))
    job = defs.resolve_implicit_global_asset_job_def()
    with pytest.raises(dg.DagsterUnknownPartitionError, match=r"partition with key `demo`"):
        job.execute_in_process(asset_selection=[dg.AssetKey(["finetuned", "rte"])],
                               partition_key="demo")  # fmt: skip


@pytest.mark.parametrize(
    "model", ['revision = "v2"', 'base = "someone/roberta-base"'], ids=["revision", "owner"]
)
def test_two_base_models_of_one_name_are_refused(tmp_path, model):
    with pytest.raises(BadConfig, match=r"'mine'.*different base models of one name: .* at "):
        plan(tmp_path, mine=f'extends = "muppet"\n[model]\n{model}')
