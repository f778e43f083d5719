"""A recipe is refused by the full name of what is wrong in it."""

from __future__ import annotations

import re
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
R4F = "[training]\nregularizer = 'r4f'"


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
    with pytest.raises(BadConfig, match=r"(?s)mixture\.slots.*training\.moment:"):
        load(tmp_path, GOOD + "slots = 3\n[training]\nmoment = 0.9")
    text = GOOD + "slot_rows = 0\nlimit = 5\n[training]\nwarmup = 2.0\npatience = -1"
    with pytest.raises(BadConfig) as caught:
        load(tmp_path, text)
    for message in (
        "mixture: slot_rows must",
        "limit does",
        "training: patience must",
        "warmup must",
    ):
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ("strategy = 'temperature'\nsteps = 1", "strategy 'temperature' needs temperature"),
        ("strategy = 'proportional'\nsteps = 1", "strategy 'proportional' needs limit"),
        ("strategy = 'weights'\nsteps = 1", "strategy 'weights' needs weights"),
        ("limit = 9\nsteps = 1", "limit does nothing with strategy 'natural'"),
        ("strategy = 'equal'\nlimit = 9\nsteps = 1", "limit does nothing with strategy 'equal'"),
        ("temperature = 2.0\nsteps = 1", "temperature does nothing with strategy 'natural'"),
        ("weights.rte = 1\nsteps = 1", "weights does nothing with strategy 'natural'"),
        ("strategy = 'weights'\nweights.rte = 0\nsteps = 1", "weights.rte must be greater than 0"),
        ("strategy = 'weights'\nweights.rte = nan\nsteps = 1", "weights.rte must be greater than"),
        ("caps.rte = -1\nsteps = 1", "caps.rte must be greater than 0"),
        ("batching = 'sequential'\nsteps = 1", "sequential batching goes through whole tasks"),
        ("steps = 1\nepochs = 1", "the budget is either steps or epochs"),
        ("slot_rows = 1", "the budget is either steps or epochs"),
    ],
)
def test_a_contradiction_in_a_mixture_is_told_under_its_table(tmp_path, mixture, message):
    for table, rest in (("mixture", ""), ("finetune.mixture", GOOD)):
        with pytest.raises(BadConfig, match=rf"mine\.toml: {table}: {re.escape(message)}"):
            load(tmp_path, f"{rest}[{table}]\n{mixture}")


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ("r3f_lambda = -1.0", "r3f_lambda must be at least 0"),
        ("clip_norm = -1.0", "clip_norm must be at least 0"),
        ("patience = -1", "patience must be at least 0"),
        ("ema = 1.0", "ema must be at least 0 and below 1"),
        ("momentum = 1.5", "momentum must be at least 0 and below 1"),
        ("betas = [0.9, 1.0]", "betas must be at least 0 and below 1, not [0.9, 1.0]"),
        ("r3f_epsilon = 0", "r3f_epsilon must be greater than 0"),
        ("learning_rate = inf", "learning_rate must be greater than 0, not inf"),
        ("slots_per_pass = 0", "slots_per_pass must be greater than 0"),
        ("keep_every = 0", "keep_every must be greater than 0"),
        ("timeout_minutes = 0", "timeout_minutes must be greater than 0"),
    ],
)
def test_a_bad_training_value_is_told_under_its_table(tmp_path, training, message):
    for table in ("training", "finetune.training"):
        with pytest.raises(BadConfig, match=rf"mine\.toml: {table}: {re.escape(message)}"):
            load(tmp_path, f"{GOOD}[{table}]\n{training}")


def test_fine_tuning_leaves_no_row_out(tmp_path):
    text = GOOD + "[finetune.mixture]\nsteps = 1\ndecontaminate = true"
    with pytest.raises(BadConfig, match=r"finetune\.mixture: decontaminate is for \[mixture\]"):
        load(tmp_path, text)


def test_r4f_is_refused_with_summaries_wherever_they_come_from(tmp_path):
    model = GOOD + "[model]\narchitecture = 'encoder-decoder'\n"
    with pytest.raises(BadConfig, match=r"mine\.toml: training\.regularizer: r4f"):
        load(tmp_path, model + "[tasks]\nfamilies = ['summarization']\n" + R4F)
    for text, key in [
        ("[tasks]\ninclude = ['xsum']\n" + R4F, "'mine': training"),
        ("[finetune]\ntasks = ['xsum']\n" + R4F.replace("[", "[finetune."), "finetune.training"),
    ]:
        with pytest.raises(BadConfig, match=rf"{key}\.regularizer: r4f"):
            load(tmp_path, model + text).select(TASKS)


def test_a_date_is_no_number(tmp_path):
    with pytest.raises(BadConfig, match="seed: Input should be a valid integer"):
        load(tmp_path, "seed = 2024-01-01" + GOOD)


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
    ("text", "key"),
    [
        ("[tasks]\ninclude = ['sst3']", "tasks.include"),
        ("[tasks]\nexclude = ['sst3']", "tasks.exclude"),
        ("[finetune]\ntasks = ['sst3']", "finetune.tasks"),
        ("caps.sst3 = 5", "mixture.caps"),
        ("strategy = 'weights'\nweights.sst3 = 5", "mixture.weights"),
    ],
)
def test_an_unknown_task_in_any_list_is_refused(tmp_path, text, key):
    recipe = load(tmp_path, GOOD + text)
    with pytest.raises(BadConfig, match=f"'mine': {key}: unknown task 'sst3'"):
        recipe.select(TASKS)


@pytest.mark.parametrize("text", ["[tasks]\ninclude = ['xsum']", "[finetune]\ntasks = ['xsum']"])
def test_an_encoder_with_a_summarization_task_is_refused(tmp_path, text):
    recipe = load(tmp_path, GOOD + text)
    with pytest.raises(BadConfig, match=r"'xsum'.*architecture"):
        recipe.select(TASKS)


def test_a_held_out_task_is_refused_in_a_mixture_and_welcome_downstream(tmp_path):
    recipe = load(tmp_path, GOOD + "[tasks]\ninclude = ['rte', 'piqa']")
    with pytest.raises(BadConfig, match=r"tasks\.include: task 'piqa' is for evaluation only"):
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
