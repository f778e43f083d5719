"""No number or list of a recipe is out of its bounds, whichever it is; the key is named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muppet_dag import recipes
from muppet_dag.errors import BadConfig
from muppet_dag.pipeline import Arm
from muppet_dag.recipes import FinetuneSection, GenerationSection, MixtureSection, Recipe
from muppet_dag.recipes.section import MOST

some = settings(max_examples=40, deadline=None)


def keys(section: type, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of a recipe with its type; of a table by task that of one of its values."""
    hints = get_type_hints(section)
    for field in fields(section):
        hint = hints[field.name]
        inside = get_args(hint)[1] if getattr(hint, "__origin__", None) is Mapping else hint
        where = (*path, field.name) if inside is hint else (*path, field.name, "xsum")
        if is_dataclass(inside):
            yield from keys(inside, where)
        else:
            yield where, inside


KEYS = dict(keys(Recipe))
FLOATS = [path for path, hint in KEYS.items() if float in (hint, *get_args(hint)[:1])]
INTS = [path for path, hint in KEYS.items() if int in (hint, *get_args(hint)[:1])]
LISTS = [path for path, hint in KEYS.items() if get_args(hint)[1:] == (...,)]
NEVER_EMPTY = {("finetune", "tasks"), ("finetune", "seeds")}
SAMPLES = {str: ["rte", "cola"], int: [1, 2]}


def refused(tmp_path_factory, path: tuple[str, ...], value: Any) -> str:
    """What a recipe with this value is refused with; "" if it is not."""
    tables = {("mixture",): {"steps": 5}, ("finetune", "mixture"): {"steps": 5}}
    if path[-1] == "epochs":
        tables[path[:-1]] = {}
    if path == ("name",):
        return ""
    listed = isinstance(value, list)
    text = repr(value).replace("'", '"') if listed else str(value)
    tables.setdefault(path[:-1], {})
    lines = [f"{path[-1]} = {text}"] if len(path) == 1 else []
    for table, plain in tables.items():
        lines += [f"[{'.'.join(table)}]"] if table else []
        lines += [f"{k} = {v}" for k, v in plain.items() if (*table, k) != path]
        lines += [f"{path[-1]} = {text}"] if table and table == path[:-1] else []
    file = tmp_path_factory.mktemp("bounds") / "mine.toml"
    file.write_text("\n".join(lines))
    try:
        recipes.load(file)
    except BadConfig as error:
        assert str(error).startswith(f"recipe {file}: ")
        return str(error)
    return ""


def test_there_are_as_many_keys_as_there_seem_to_be():
    assert len(FLOATS) > 20 and len(INTS) > 30 and len(LISTS) >= 5
    assert ("finetune", "generations", "xsum", "length_penalty") in FLOATS


@given(st.sampled_from(FLOATS), st.sampled_from([math.nan, math.inf, -math.inf]))
@settings(max_examples=80, deadline=None)
def test_no_number_is_infinite_or_none_at_all(tmp_path_factory, path, value):
    value = [value, 0.5] if path[-1] == "betas" else value
    assert f"{path[-1]} must" in refused(tmp_path_factory, path, value)


@given(st.sampled_from(INTS), st.integers(max_value=-1) | st.integers(min_value=MOST + 1))
@settings(max_examples=80, deadline=None)
def test_no_count_is_negative_or_beyond_what_rows_are_numbered_with(tmp_path_factory, path, value):
    if LISTS.count(path):
        value = [3, value]
    assert f"{path[-1]} must" in refused(tmp_path_factory, path, value)


@given(st.sampled_from(INTS), st.sampled_from([1.5, "true", '"7"']))
@some
def test_no_count_is_anything_but_a_whole_number(tmp_path_factory, path, value):
    if path in LISTS:
        value = [value.strip('"') if isinstance(value, str) else value]
    message = refused(tmp_path_factory, path, value)
    assert f"{path[-1]}: Input should" in message or "seeds.0: Input should" in message


@pytest.mark.parametrize("path", LISTS, ids=".".join)
def test_nothing_stands_twice_in_a_list(tmp_path_factory, path):
    values = SAMPLES.get(get_args(KEYS[path])[0], ["mrc", "commonsense"])
    assert not refused(tmp_path_factory, path, values)
    message = refused(tmp_path_factory, path, [*values, values[0]])
    assert f"{path[-1]} names {values[0]} more than once" in message
    empty = refused(tmp_path_factory, path, [])
    assert (
        (f"{path[-1]} must not be empty" in empty)
        if path in NEVER_EMPTY
        else not empty or (path[-1] == "families" and "nothing to train on" in empty)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[tasks]\ninclude = ["rte"]\nexclude = ["cola", "rte"]',
         "tasks: include and exclude both name rte"),
        ("[tasks]\nfamilies = []", "tasks: families and include are empty"),
        ('[model]\nbase = " "', "model: base must not be empty"),
        ("seed = -1", "seed must be at least 0, not -1"),
        ("[finetune.generation]\nbeams = 1\nlength_penalty = 2.0",
         "finetune.generation: length_penalty does nothing with beams = 1"),
        ("[finetune.generation]\nmin_length = 9\nmax_length = 8",
         "finetune.generation: min_length 9 is more than max_length 8"),
        ("[finetune.generation]\nmin_length = 9\n[finetune.generations.xsum]\nmax_length = 8",
         "finetune: generations.xsum: min_length 9 is more than max_length 8"),
        ("[finetune.generations.xsum]\nmin_length = 129",
         "finetune.generations.xsum: min_length 129 is more than model.max_target_length 128"),
        ("[finetune.generation]\nbeam = 4", "beam: there is no such key"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_under_its_key(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(f"{text}\n[mixture]\nsteps = 5\n")
    with pytest.raises(BadConfig) as caught:
        recipes.load(path)
    assert message in str(caught.value)


def recipe(**generations: GenerationSection) -> Recipe:
    finetune = FinetuneSection(tasks=("xsum",), generations=generations)
    return Recipe(name="mine", mixture=MixtureSection(steps=1), finetune=finetune)


def test_summaries_are_written_for_summarization_tasks_of_the_catalogue_alone():
    from muppet_dag.catalogue import TASKS

    with pytest.raises(BadConfig, match=r"finetune\.generations: unknown task 'xsun'"):
        recipe(xsun=GenerationSection(beams=2)).select(TASKS)
    with pytest.raises(BadConfig, match="generations: task 'rte' is no summarization task"):
        recipe(rte=GenerationSection(beams=2)).select(TASKS)


def test_a_task_has_the_settings_of_all_but_for_its_own():
    finetune = FinetuneSection(
        generation=GenerationSection(beams=4, min_length=5),
        generations={"xsum": GenerationSection(beams=6, max_length=60)},
    )
    assert finetune.generation_of("aeslc") == GenerationSection(beams=4, min_length=5)
    own = GenerationSection(beams=6, min_length=5, max_length=60)
    assert finetune.generation_of("xsum") == own


def test_how_summaries_are_written_makes_another_artefact_of_them_and_of_nothing_else():
    one = recipe(xsum=GenerationSection(beams=2))
    other = recipe(xsum=GenerationSection(beams=3))
    for task, same in (("xsum", False), ("aeslc", True), ("rte", True)):
        names = {Arm(each, "tiny-bart", baseline=True).finetuned(task) for each in (one, other)}
        assert (len(names) == 1) == same


def test_bart_writes_as_it_was_published():
    """fairseq, examples/bart/summarize.py."""
    finetune = recipes.get("muppet-bart").finetune
    assert {"cnn_dailymail", "xsum"} <= set(finetune.tasks)
    expected = {"cnn_dailymail": (4, 2.0, 55, 140, 3), "xsum": (6, 1.0, 10, 60, 3)}
    for task, values in expected.items():
        assert tuple(vars(finetune.generation_of(task)).values()) == values
