"""A recipe that extends another is what it would be if it had been written in full."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag import recipes
from muppet_dag.catalogue import TASKS
from muppet_dag.errors import BadConfig
from muppet_dag.recipes import Recipe
from muppet_dag.recipes.write import toml

PARENT = """
description = "the parent"
seed = 7
[model]
base = "tiny-bert"
[tasks]
families = ["mrc"]
include = ["rte", "sst2"]
[mixture]
epochs = 3
slot_rows = 8
caps = { rte = 100, squad = 200 }
[finetune]
tasks = ["boolq"]
[finetune.mixture]
epochs = 5
slot_rows = 4
"""
MIXING = {
    "natural": "",
    "equal": "",
    "proportional": "limit = 10",
    "temperature": "temperature = 2.0\nlimit = 20",
    "weights": "weights = { rte = 1.0 }",
}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)


def child(folder: Path, text: str, parent: str = PARENT) -> Recipe:
    write(folder, parent=parent, mine='extends = "parent"\n' + text)
    return recipes.load(folder / "mine.toml")


def test_what_a_child_does_not_say_is_its_parents_and_its_name_is_its_own(tmp_path):
    recipe = child(tmp_path, 'description = "the child"')
    parent = recipes.load(tmp_path / "parent.toml")
    assert recipe == replace(parent, name="mine", description="the child")
    assert child(tmp_path, "").description == ""


def test_tables_are_merged_and_lists_and_values_replaced(tmp_path):
    recipe = child(
        tmp_path,
        'seed = 8\n[tasks]\ninclude = ["cola"]\n[mixture]\nslot_rows = 16\ncaps.rte = 50\n'
        "[finetune.training]\nwarmup = 0.2",
    )
    assert (recipe.seed, recipe.tasks.include, recipe.tasks.families) == (8, ("cola",), ("mrc",))
    assert (recipe.mixture.slot_rows, recipe.mixture.epochs) == (16, 3)
    assert recipe.mixture.caps == {"rte": 50, "squad": 200}
    assert (recipe.finetune.training.warmup, recipe.finetune.tasks) == (0.2, ("boolq",))


def test_a_budget_replaces_the_other_kind_of_budget_in_its_own_table_only(tmp_path):
    recipe = child(tmp_path, "[mixture]\nsteps = 10")
    assert (recipe.mixture.steps, recipe.mixture.epochs, recipe.finetune.mixture.epochs) == (
        10,
        None,
        5,
    )
    recipe = child(tmp_path, "[finetune.mixture]\nsteps = 10")
    assert (recipe.mixture.epochs, recipe.finetune.mixture.steps) == (3, 10)
    assert recipe.finetune.mixture.epochs is None and recipe.finetune.mixture.slot_rows == 4


@pytest.mark.parametrize("before", MIXING)
@pytest.mark.parametrize("after", MIXING)
def test_any_strategy_can_be_changed_to_any_other(tmp_path, before, after):
    parent = f'[mixture]\nsteps = 1\nstrategy = "{before}"\n{MIXING[before]}'
    table = f'[mixture]\nstrategy = "{after}"\n{MIXING[after]}'
    write(tmp_path, plain=table + "\nsteps = 1")
    assert child(tmp_path, table, parent).mixture == recipes.load(tmp_path / "plain.toml").mixture


def test_a_key_that_both_strategies_read_stays(tmp_path):
    parent = '[mixture]\nsteps = 1\nstrategy = "proportional"\nlimit = 10'
    table = '[mixture]\nstrategy = "temperature"\ntemperature = 2.0'
    assert child(tmp_path, table, parent).mixture.limit == 10


def test_a_chain_ends_at_a_shipped_recipe(tmp_path):
    write(
        tmp_path,
        first='extends = "muppet"\n[training]\nema = 0.9',
        second='extends = "first"\n[training]\nclip_norm = 1.0',
    )
    loaded = recipes.load_all(tmp_path)
    training = replace(loaded["muppet"].training, ema=0.9, clip_norm=1.0)
    assert loaded["second"] == replace(
        loaded["muppet"], name="second", description="", training=training
    )


def test_the_example_in_the_readme_is_a_recipe(tmp_path):
    readme = Path(__file__).parents[2] / "README.md"
    text = next(t for t in re.findall(r"```toml\n(.*?)```", readme.read_text(), re.DOTALL)
                if "extends" in t)  # fmt: skip
    write(tmp_path, half=text)
    half, muppet = recipes.load(tmp_path / "half.toml"), recipes.get("muppet")
    assert (half.mixture.steps, half.mixture.epochs) == (20_000, None)
    assert half.training == muppet.training and len(half.select(TASKS)) < len(muppet.select(TASKS))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"mine": 'extends = "mine"'}, r"mine\.toml: extends: .*itself \(mine -> mine\)"),
        ({"mine": 'extends = "b"', "b": 'extends = "c"', "c": 'extends = "b"'},
         r"c\.toml: extends: .*itself \(mine -> b -> c -> b\)"),
        ({"mine": 'extends = "b"', "b": 'extends = "mupet"'},
         r"b\.toml: extends: unknown recipe 'mupet' \(mine -> b -> mupet\); there are b, .*muppet"),
        ({"mine": 'extends = "../mine"'}, r"unknown recipe '\.\./mine'"),
        ({"mine": "extends = 3"}, r"mine\.toml: extends: unknown recipe 3"),
        ({"mine": 'extends = ["demo"]'}, r"mine\.toml: extends: unknown recipe \['demo'\]"),
        ({"mine": 'extends = "b"', "b": "[mixture]\nsteps = 0"}, r"b\.toml: mixture: steps must"),
        ({"mine": 'extends = "b"\n[mixture]\nsteps = 0', "b": "[mixture]\nsteps = 1"},
         r"mine\.toml: mixture: steps must"),
        ({"mine": 'extends = "demo"\nmixture = 3'}, r"mine\.toml: mixture: "),
        ({"mine": 'extends = "demo"\n[mixture]\nstrategy = ["equal"]'}, r"mixture\.strategy: "),
        ({"mine": 'extends = "demo"\n[mixture]\nsteps = 1\nepochs = 1'}, r"either steps or epochs"),
        ({"mine": 'extends = "demo"\n[mixture]\nstrategy = "temperature"'}, r"needs temperature"),
        ({"mine": 'extends = "demo"\n[mixture]\nextends = "small"'}, r"mixture\.extends: there is"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended_is_refused_with_the_file_at_fault(tmp_path, files, message):
    write(tmp_path, **files)
    with pytest.raises(BadConfig, match=message):
        recipes.load(tmp_path / "mine.toml")


SHIPPED = sorted(path.stem for path in recipes.SHIPPED.glob("*.toml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_written_out_is_read_as_itself(tmp_path, name):
    recipe = recipes.get(name)
    text = toml(recipe)
    write(tmp_path, **{name: text})
    assert recipes.load(tmp_path / f"{name}.toml") == recipe
    assert "extends" not in asdict(recipe) and "extends" not in text


@settings(deadline=None)
@given(
    description=st.text(st.characters(codec="utf-8")),
    weights=st.dictionaries(st.from_regex(r"[a-z0-9_]+", fullmatch=True), st.floats(1e-9, 1e9),
                            min_size=1),
    rate=st.floats(1e-12, 1e3),
)  # fmt: skip
def test_any_text_and_number_survives_being_written(tmp_path_factory, description, weights, rate):
    path = tmp_path_factory.mktemp("written") / "mine.toml"
    plain = recipes.get("muppet")
    recipe = replace(
        plain, name="mine", description=description,
        mixture=replace(plain.mixture, strategy="weights", weights=weights),
        training=replace(plain.training, learning_rate=rate),
    )  # fmt: skip
    path.write_text(toml(recipe), encoding="utf-8")
    assert recipes.load(path) == recipe
