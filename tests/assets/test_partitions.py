"""Recipes become partitions: the shipped ones and a user's own beside them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from assets.partitions import Plan
from deployments.local.location import build
from deployments.local.settings import Settings
from muppet_dag import recipes
from muppet_dag.errors import BadConfig
from muppet_dag.pipeline import BASE, PRE, finetuned_name

BASE_MODEL = "FacebookAI/roberta-base"


def plan(folder: Path, **own: str) -> Plan:
    for name, text in own.items():
        (folder / f"{name}.toml").write_text(text)
    return Plan(recipes.load_all(folder), BASE_MODEL)


def test_own_recipes_are_partitions_beside_the_shipped_ones(tmp_path):
    chosen = plan(tmp_path, mine='extends = "muppet"\n[finetune]\ntasks = ["rte"]')
    keys = chosen.by_recipe.get_partition_keys()
    assert {"mine", "muppet", "t5-equal"} <= set(keys)
    assert [key for key in chosen.downstream if key.startswith("mine.")] == [
        "mine.base.rte", "mine.pre.rte"
    ]  # fmt: skip
    assert set(Counter(chosen.downstream).values()) == {1}
    defs = build(Settings(tmp_path, "samples", BASE_MODEL, tmp_path, workers=1))
    mixture = next(a for a in defs.assets if a.key.path == ["mixture"])
    assert mixture.partitions_def.get_partition_keys() == keys


def test_recipes_with_one_base_and_lengths_share_base_and_tokens(tmp_path):
    chosen = plan(tmp_path, mine='extends = "muppet"\n[model]\nmax_length = 256')
    names = ("muppet", "muppet-r3f", "t5-equal", "mtdnn")
    assert {chosen.tokenizer(chosen.recipes[n]) for n in names} == {"roberta-base-512-128-128"}
    assert chosen.tokenizer(chosen.recipes["mine"]) == "roberta-base-256-64-128"
    assert chosen.base(chosen.recipes["mine"]) == chosen.base(chosen.recipes["muppet"])


def baselines(folder: Path, **own: str) -> dict[str, str]:
    """Where each recipe's own fine-tuned baseline of RTE lies."""
    chosen = plan(folder, **own)
    listed = [chosen.recipes[name] for name in [*own, "muppet", "muppet-r3f"]]
    return {r.name: finetuned_name(r, BASE_MODEL, r.name + BASE, "rte") for r in listed}


def test_a_baseline_is_shared_where_base_and_fine_tuning_are_the_same(tmp_path):
    where = baselines(
        tmp_path,
        tasks='extends = "muppet"\n[finetune]\ntasks = ["rte"]',
        aside='extends = "muppet"\n[finetune.training]\nlog_every = 1',
        rate='extends = "muppet"\n[finetune.training]\nlearning_rate = 2e-5',
        seeds='extends = "muppet"\n[finetune]\nseeds = [1]',
        steps='extends = "muppet"\n[finetune.mixture]\nsteps = 9',
        length='extends = "muppet"\n[model]\nmax_length = 256',
        other='extends = "muppet"\n[model]\nbase = "FacebookAI/roberta-large"',
    )
    same = {"muppet", "muppet-r3f", "tasks", "aside"}
    assert {where[name] for name in same} == {where["muppet"]}
    assert len(set(where.values())) == 1 + len(where) - len(same)


def test_a_pre_finetuned_model_is_never_shared(tmp_path):
    chosen = plan(tmp_path).recipes.values()
    where = {finetuned_name(r, BASE_MODEL, r.name + PRE, "rte") for r in chosen}
    assert len(where) == len(chosen)


@pytest.mark.parametrize(
    "model", ['revision = "v2"', 'base = "someone/roberta-base"'], ids=["revision", "owner"]
)
def test_two_base_models_of_one_name_are_refused(tmp_path, model):
    with pytest.raises(BadConfig, match=r"'mine'.*different base models of one name: .* at "):
        plan(tmp_path, mine=f'extends = "muppet"\n[model]\n{model}')
