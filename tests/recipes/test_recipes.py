"""A recipe is refused by the full name of what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from muppet_dag import recipes
from muppet_dag.catalogue import TASKS
from muppet_dag.errors import BadConfig
from muppet_dag.recipes import Recipe

SHIPPED = sorted(path.stem for path in recipes.SHIPPED.glob("*.toml"))
GOOD = """
[mixture]
steps = 10
"""


def write(folder: Path, text: str = GOOD, name: str = "mine") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def load(tmp_path: Path, text: str, name: str = "mine") -> Recipe:
    return recipes.load(write(tmp_path, text, name))


def test_there_are_shipped_recipes():
    assert {"demo", "muppet"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_and_names_tasks_of_the_catalogue(name):
    recipe = recipes.get(name)
    assert recipe.name == name and recipe.description
    chosen = recipe.select(TASKS)
    assert chosen and set(recipe.finetune.tasks) <= set(TASKS)
    if recipe.model.architecture == "encoder":
        assert "summarization" not in {TASKS[task].family for task in chosen}


def test_the_file_gives_the_name_and_defaults_fill_the_rest(tmp_path):
    recipe = load(tmp_path, GOOD, "my-recipe_2")
    assert (recipe.name, recipe.seed, recipe.mixture.steps) == ("my-recipe_2", 1, 10)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD + "slots = 3", "mixture.slots"),
        (GOOD + "[trainig]\nwarmup = 0.1", "trainig"),
        (GOOD + "[finetune.training]\nlr = 1", "finetune.training.lr"),
        ("[mixture]\nsteps = 'many'", "mixture.steps"),
        ("[mixture]\nsteps = 1.5", "mixture.steps"),
        (GOOD + "[training]\nloss_scaling = 'perhaps'", "training.loss_scaling"),
        (GOOD + "[model]\narchitecture = 'decoder'", "model.architecture"),
        (GOOD + "[tasks]\nfamilies = ['poetry']", "tasks.families"),
        (GOOD + "[training]\nschedule = 'cosine'", "training.schedule"),
        (GOOD + "[training]\nlearning_rate = 0", "learning_rate"),
        (GOOD + "[training]\ndropout = 1.0", "dropout"),
        (GOOD + "[training]\nlabel_smoothing = -0.1", "label_smoothing"),
        (GOOD + "slot_rows = 0", "slot_rows"),
        ("[mixture]\nsteps = 10\nepochs = 2", "either steps or epochs"),
        ("[mixture]\nslot_rows = 8", "either steps or epochs"),
        ("seed = 3", "mixture"),
        (GOOD + "[tasks]\nfamilies = ['summarization']", "tasks.families"),
        ("name = 'other'" + GOOD, "name"),
    ],
)
def test_what_is_wrong_is_refused_by_its_key(tmp_path, text, key):
    with pytest.raises(BadConfig) as caught:
        load(tmp_path, text)
    assert key in str(caught.value).replace(str(tmp_path), "") and "mine.toml" in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    with pytest.raises(BadConfig, match=r"(?s)mixture\.slots.*training\.momentum"):
        load(tmp_path, GOOD + "slots = 3\n[training]\nmomentum = 0.9")


@pytest.mark.parametrize("text", ["steps = ", "[mixture\nsteps = 1", "\x00"])
def test_a_file_that_is_no_toml_is_named(tmp_path, text):
    with pytest.raises(BadConfig, match=r"mine\.toml"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"nowhere\.toml"):
        recipes.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("name", ["My Recipe", "a.b", "-x", "Ä"])
def test_a_file_name_that_is_no_recipe_name_is_refused(tmp_path, name):
    with pytest.raises(BadConfig, match="recipe name"):
        load(tmp_path, GOOD, name)


def test_own_recipes_stand_beside_the_shipped_ones(tmp_path):
    write(tmp_path)
    assert sorted(recipes.load_all(tmp_path)) == sorted([*SHIPPED, "mine"])


def test_a_second_recipe_of_the_same_name_is_refused(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    with pytest.raises(BadConfig, match=r"b/mine\.toml: there is already a recipe 'mine'"):
        recipes.load_all(tmp_path / "a", tmp_path / "b")
    write(tmp_path / "c", name="demo")
    with pytest.raises(BadConfig, match="already a recipe 'demo'"):
        recipes.load_all(tmp_path / "c")


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(BadConfig, match=r"'mupet'.*muppet"):
        recipes.get("mupet")


@pytest.mark.parametrize(
    "text", ["[tasks]\ninclude = ['sst3']", "[tasks]\nexclude = ['sst3']",
             "[finetune]\ntasks = ['sst3']"],
)  # fmt: skip
def test_an_unknown_task_in_any_list_is_refused(tmp_path, text):
    recipe = load(tmp_path, GOOD + text)
    with pytest.raises(BadConfig, match="'mine': unknown task 'sst3'"):
        recipe.select(TASKS)


@pytest.mark.parametrize("text", ["[tasks]\ninclude = ['xsum']", "[finetune]\ntasks = ['xsum']"])
def test_an_encoder_with_a_summarization_task_is_refused(tmp_path, text):
    recipe = load(tmp_path, GOOD + text)
    with pytest.raises(BadConfig, match=r"'xsum'.*architecture"):
        recipe.select(TASKS)


def test_a_held_out_task_is_refused_in_a_mixture_and_welcome_downstream(tmp_path):
    recipe = load(tmp_path, GOOD + "[tasks]\ninclude = ['rte', 'piqa']")
    with pytest.raises(BadConfig, match="'mine': task 'piqa' is for evaluation only"):
        recipe.select(TASKS)
    chosen = load(tmp_path, GOOD + "[finetune]\ntasks = ['piqa']").select(TASKS)
    assert chosen and not any(TASKS[name].held_out for name in chosen)


def test_tasks_are_families_plus_include_minus_exclude(tmp_path):
    text = "[tasks]\nfamilies = ['mrc']\ninclude = ['rte']\nexclude = ['drop']"
    chosen = load(tmp_path, GOOD + text).select(TASKS)
    mrc = {name for name, task in TASKS.items() if task.family == "mrc"}
    assert chosen == sorted((mrc | {"rte"}) - {"drop"})


def test_the_default_base_counts_only_where_a_recipe_names_none(tmp_path):
    assert load(tmp_path, GOOD).base("tiny-bert") == "tiny-bert"
    named = load(tmp_path, GOOD + "[model]\nbase = 'FacebookAI/roberta-base'")
    assert named.base("tiny-bert") == "FacebookAI/roberta-base"
    assert named.tokenizer("tiny-bert") == "roberta-base-512-128-128"


@pytest.mark.parametrize(
    ("base", "slug"),
    [("FacebookAI/roberta-base", "roberta-base"), ("/models/My Model/", "my-model"),
     ("../..", "model"), ("Ä", "model")],
)  # fmt: skip
def test_a_base_model_becomes_a_safe_path_part(base, slug):
    assert recipes.slug(base) == slug
