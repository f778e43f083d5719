"""A task, a recipe or a setting that is wrong says so in one line, and stops nothing else."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import muppet_dag
from assets.partitions import Plan
from deployments.local.location import build
from deployments.local.settings import Settings
from muppet_dag import catalogue, pipeline, recipes, samples
from muppet_dag import settings as checks
from muppet_dag.catalogue import PROBLEMS, TASKS
from muppet_dag.cli import app
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.store import Store
from resources.launcher import _name

GOOD = (
    '[{name}]\nfamily = "classification"\n'
    'files = {{ train = "rows.csv", validation = "rows.csv" }}\n'
    'text = "text"\nlabel = "CAST(label AS INTEGER)"\nclasses = ["no", "yes"]\n'
)
RECIPE = "[mixture]\nsteps = 3\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one good task of the user's own."""
    place = tmp_path / "tasks"
    place.mkdir()
    (place / "rows.csv").write_text("text,label\na,0\nb,1\nc,0\nd,1\n")
    (place / "good.toml").write_text(GOOD.format(name="fine"))
    return place


@pytest.fixture(scope="module")
def boolq(tmp_path_factory) -> Path:
    """A source with one shipped task."""
    return samples.make(tmp_path_factory.mktemp("hub"), train_rows=24, tasks=["boolq"])


@pytest.fixture
def run(folder, tmp_path, monkeypatch, boolq):
    """The command line, with the tasks above."""
    for name, value in (("TASKS", folder), ("HOME", tmp_path / "home"), ("SOURCE", boolq)):
        monkeypatch.setenv(f"MUPPET_{name}", str(value))
    return lambda *args: CliRunner().invoke(app, list(args))


BAD = {
    "missing file": ("bad.toml", GOOD.format(name="bad").replace("rows", "gone"), "no file"),
    "wrong key": ("bad.toml", GOOD.format(name="bad") + "colour = 1\n", "bad.colour"),
    "no TOML": ("bad.toml", GOOD.format(name="bad") + "]", "bad.toml"),
    "UTF-16": ("bad.toml", GOOD.format(name="bad").encode("utf-16"), "save it as UTF-8"),
    "Latin-1": ("bad.toml", GOOD.format(name="bad").encode() + b"# caf\xe9", "line 7 is not UTF-8"),
    "raises": ("bad.py", "1 / 0\nbad = classification()", "ZeroDivisionError"),
    "exits": ("bad.py", "import sys\nsys.exit(3)", "SystemExit"),
    "no syntax": ("bad.py", "bad = commonsense(", "SyntaxError"),
    "odd metrics": (
        "bad.py",
        "from muppet_dag.catalogue.task import classification, files\n"
        "bad = classification(files('rows.csv'), text='text', score='1', metrics=7)",
        "TypeError",
    ),
    "twice": ("bad.toml", GOOD.format(name="bad") + GOOD.format(name="bad"), "bad"),
    "long name": ("bad.toml", GOOD.format(name="x" * 65), "at most 64"),
    "shipped name": ("bad.toml", GOOD.format(name="boolq"), "has a task of that name already"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_task_stops_nothing_else_and_is_seen(kind, folder, run, tmp_path, caplog):
    file, content, expected = BAD[kind]
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    listed = run("tasks")
    assert listed.exit_code == 0 and "rows.csv" in listed.stdout and "boolq" in listed.stdout
    assert "cannot be used: why" in listed.stdout
    (name, problem), *_ = PROBLEMS.items()
    assert expected in problem and file in problem
    shown = run("show", "fine", "--rows", "1")
    assert shown.exit_code == 0 and "left out" in shown.stderr
    refused = run("show", name)
    assert refused.exit_code == 1 and "Traceback" not in refused.output
    assert expected in " ".join(refused.stderr.split())


def test_python_and_dagster_go_on_without_the_bad_tasks(folder, run, tmp_path, caplog, boolq):
    expected = {}
    for number, (file, content, part) in enumerate(BAD.values()):
        text = content.decode("latin-1") if isinstance(content, bytes) else content
        data = text.replace("bad", f"bad{number}").encode(
            "latin-1" if isinstance(content, bytes) else "utf-8"
        )
        (folder / file.replace("bad", f"bad{number}")).write_bytes(data)
        expected[f"bad{number}"] = part.replace("bad", f"bad{number}")
    assert muppet_dag.load_task("boolq", source=str(boolq))["train"].num_rows
    assert muppet_dag.load_task("fine")["train"].num_rows == 4
    with caplog.at_level(logging.WARNING):
        job = build(Settings.read()).resolve_implicit_global_asset_job_def()
    assert caplog.text.count("left out: ") == len(BAD)
    shards = {key for key in job.asset_layer.executable_asset_keys if key.path[0] == "shards"}
    bad = sorted(shards - {dg.AssetKey(["shards", task]) for task in TASKS})
    assert len(bad) == len(BAD)
    result = job.execute_in_process(asset_selection=bad, raise_on_error=False)
    failed = str([e.step_failure_data for e in result.all_events if e.is_step_failure])
    assert all(part in failed for part in expected.values())


def test_a_task_that_is_mended_is_there_again(folder):
    (folder / "bad.toml").write_text(GOOD.format(name="bad") + "]")
    assert list(catalogue.extend(folder)) == ["fine"] and list(PROBLEMS) == ["bad"]
    (folder / "bad.toml").write_text(GOOD.format(name="bad"))
    assert set(catalogue.extend(folder)) == {"bad", "fine"} and not PROBLEMS
    (folder / "good.toml").write_text("[")
    catalogue.extend(folder)
    assert "fine" not in TASKS and list(PROBLEMS) == ["good.toml"]
    with pytest.raises(BadConfig, match=r"unknown task 'fine'.*Not all files could be read.*good"):
        catalogue.get("fine")


@pytest.mark.parametrize("mark", ["\ufeff", ""])
def test_a_byte_order_mark_does_not_matter(folder, tmp_path, mark):
    (folder / "good.toml").write_text(mark + GOOD.format(name="fine"), encoding="utf-8")
    (tmp_path / "mine.toml").write_text(mark + RECIPE, encoding="utf-8")
    assert list(catalogue.extend(folder)) == ["fine"]
    assert recipes.get("mine", tmp_path).mixture.steps == 3


def test_recipes_without_the_bad_task_go_on_and_say_so(folder, tmp_path):
    (folder / "bad.toml").write_text(GOOD.format(name="bad").replace("rows", "gone"))
    catalogue.extend(folder)
    whole, excluding = recipes.get("demo"), tmp_path / "excluding.toml"
    excluding.write_text('extends = "demo"\ntasks.exclude = ["bad"]\n')
    assert "fine" in pipeline.select(whole) and "bad" not in pipeline.select(whole)
    assert pipeline.select(recipes.load(excluding)) == pipeline.select(whole)
    for key in ("tasks.include = ['bad']", "finetune.tasks = ['bad']", "mixture.caps.bad = 3"):
        (tmp_path / "naming.toml").write_text(f'extends = "demo"\n{key}\n')
        with pytest.raises(BadConfig, match=r"'naming'.*bad: files.train: there is no file"):
            pipeline.select(recipes.load(tmp_path / "naming.toml"))


def test_the_mixture_says_which_tasks_could_not_be_used(folder, tmp_path):
    (folder / "bad.toml").write_text(GOOD.format(name="bad").replace("rows", "gone"))
    catalogue.extend(folder)
    (tmp_path / "few.toml").write_text(
        '[model]\nbase = "tiny-bert"\n[mixture]\nsteps = 2\nslots_per_step = 2\n'
        "decontaminate = false\n"
    )
    store, recipe = Store(tmp_path / "home"), recipes.load(tmp_path / "few.toml")
    source = pipeline.open_source(str(folder), store)
    pipeline.make_base(store, "tiny-bert")
    pipeline.make_shards(store, source, catalogue.get("fine"))
    pipeline.make_tokens(store, recipe, "tiny-bert", catalogue.get("fine"))
    left_out = pipeline.make_mixture(store, recipe, "tiny-bert").facts["left_out"]
    assert "bad" in left_out and "boolq" in left_out and "fine" not in left_out
    with pytest.raises(MuppetError, match=rf"1 of {1 + len(left_out)} tasks.*least_share.*boolq"):
        pipeline.prefinetune(store, recipe, "tiny-bert", lambda jobs: pytest.fail("it trains"))


def test_a_bad_recipe_hides_no_other(folder, tmp_path, run, monkeypatch):
    place = tmp_path / "recipes"
    place.mkdir()
    (folder / "bad.toml").write_text(GOOD.format(name="bad").replace("rows", "gone"))
    bad = {
        "broken": "[",
        "wide": "\ufeff[mixture]\nsteps = 3".encode("utf-16").decode("latin-1"),
        "wrong": "[mixture]\nsteps = 'three'",
        "naming": RECIPE + "[tasks]\ninclude = ['bad']",
        "strange": RECIPE + "[tasks]\ninclude = ['nosuch']",
        "othermodel": RECIPE + "[model]\nbase = 'other/roberta-base'",
        "muppet": RECIPE,
        "l" * 65: RECIPE,
    }
    for name, text in {**bad, "mine": RECIPE}.items():
        (place / f"{name}.toml").write_text(text, encoding="latin-1" if name == "wide" else "utf-8")
    monkeypatch.setenv("MUPPET_RECIPES", str(place))
    listed = run("recipes")
    assert listed.exit_code == 0 and " mine " in listed.stdout and " t5-equal " in listed.stdout
    shown = " ".join(listed.stdout.split())
    assert "there is no file" in shown and "'nosuch'" in shown and "already a recipe" in shown
    assert run("recipe", "mine").exit_code == 0
    assert (
        run("recipe", "wrong").exit_code == 1 and "mixture.steps" in run("recipe", "wrong").stderr
    )
    loaded, problems = recipes.read_all(place)
    plan = Plan.of(loaded, "FacebookAI/roberta-base", problems)
    assert {"mine", "muppet", "t5-equal"} <= set(plan.recipes)
    assert {*bad, "recipes/muppet"} - {"muppet"} == set(plan.problems)
    with pytest.raises(BadConfig, match="different base models"):
        plan.recipe("othermodel")
    job = build(Settings.read()).resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("mixture")], partition_key="wrong", raise_on_error=False
    )
    assert "mixture.steps" in str([e for e in result.all_events if e.is_step_failure])


NAMES = st.one_of(
    st.sampled_from(
        ["con", "default", "_x", "__", "0", "made", "current", "type", "mrc", "a" * 64]
    ),
    st.text("abz09_", min_size=1, max_size=64),
)


@hypothesis_settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=NAMES.filter(lambda name: name not in catalogue.TASKS))
def test_any_allowed_name_goes_all_the_way(name, folder, tmp_path_factory):
    (folder / "good.toml").write_text(GOOD.format(name=name))
    assert list(catalogue.extend(folder)) == [name]
    home = tmp_path_factory.mktemp("home")
    store = Store(home)
    artefact = pipeline.make_shards(store, pipeline.open_source(str(folder), store), TASKS[name])
    assert artefact.path.parent == home / "shards" / name
    (folder / "tuning.toml").write_text(f'extends = "demo"\nfinetune.tasks = ["{name}"]\n')
    recipe = recipes.load(folder / "tuning.toml")
    (folder / "tuning.toml").unlink()
    plan = Plan({"tuning": recipe}, "tiny-bert")
    for arm in plan.downstream[name]:
        for place in (arm.finetuned(name), arm.evaluation(name)):
            store.folder(place).mkdir(parents=True)
    from assets.evaluation import evaluation_asset
    from assets.shards import shards_asset
    from assets.tokens import tokens_asset
    from assets.training import finetuned_asset

    makers = (tokens_asset(TASKS[name], plan), finetuned_asset(name, plan))
    dg.Definitions(assets=[shards_asset(TASKS[name]), *makers, evaluation_asset(name, plan)])


def test_names_of_runs_are_cut_to_what_the_tracker_takes():
    class Context:
        asset_key = dg.AssetKey(["finetuned", "t" * 64])
        partition_key = f"base.{'r' * 64}-{'0' * 8}"

    assert len(_name(Context, Path("work/seed-1/job.json"))) <= 128


# Settings


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("MUPPET_HOME", "FILE", "a file is in its way"),
        ("MUPPET_HOME", "FILE/inside", "a file is in its way"),
        ("MUPPET_HOME", "~nosuchuser/x", "no such user"),
        ("MUPPET_HOME", "/proc/nowhere", "cannot be written to"),
        ("MUPPET_HOME", "/sys", "cannot be written to"),
        ("MUPPET_SOURCE", "FILE", "a file and no folder"),
        ("MUPPET_SOURCE", "/nowhere", "no such folder"),
        ("MUPPET_SOURCE", "~nosuchuser", "no such user"),
        ("MUPPET_SOURCE", "hub:ftp://x", "expected hub:http"),
        ("MUPPET_TASKS", "/nowhere", "no such folder"),
        ("MUPPET_TASKS", "FILE", "this is a file"),
        ("MUPPET_RECIPES", "FILE", "this is a file"),
        ("MUPPET_RECIPES", "~nosuchuser", "no such user"),
        ("MUPPET_MODEL", "a/b/c", "no such folder, and no name"),
        ("MUPPET_MODEL", "~nosuchuser/x", "no such user"),
        ("MUPPET_WORKERS", "0", "1 or more"),
        ("MUPPET_MEMORY", "lots", "4GB"),
        ("MUPPET_MEMORY", "10", "4GB"),
        ("MUPPET_MEMORY", "-1GB", "4GB"),
        ("MUPPET_MEMORY", "2KB", "10MB or more"),
        ("MUPPET_WORKERS", "-1", "1 or more"),
        ("MUPPET_WORKERS", "two", "1 or more"),
        ("MUPPET_WORKERS", "²", "1 or more"),
        ("MUPPET_WORKERS", "1.5", "1 or more"),
        ("MUPPET_SYSTEM_METRICS", "maybe", "on or off"),
        ("WANDB_MODE", "ofline", "online, offline"),
        ("HF_ENDPOINT", "huggingface.co", "expected http"),
        ("HF_HOME", "FILE", "a file is in its way"),
    ],
)
def test_a_bad_setting_is_refused_with_its_name(tmp_path, monkeypatch, variable, value, expected):
    (tmp_path / "file").write_text("")
    value = value.replace("FILE", str(tmp_path / "file"))
    monkeypatch.setenv("MUPPET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MUPPET_SOURCE", "hub")  # whatever it is where the tests run
    monkeypatch.setenv(variable, value)
    with pytest.raises(BadConfig, match=expected) as caught:
        Settings.read()
    assert repr(value) in str(caught.value) and "\n" not in str(caught.value)
    assert variable in str(caught.value) or "source" in str(caught.value)


def test_a_variable_set_to_nothing_is_not_set(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HOME", "SOURCE", "MODEL", "RECIPES", "TASKS", "WORKERS"):
        monkeypatch.setenv(f"MUPPET_{name}", " ")
    chosen = Settings.read()
    assert (chosen.home, chosen.source, chosen.workers) == (tmp_path / ".muppet-dag", "hub", 1)
    assert chosen.recipes is None and chosen.tasks is None and not chosen.chose_model


@pytest.mark.parametrize("home", ["/proc/nowhere", "~nosuchuser", "/dev/null"])
def test_a_home_that_cannot_be_written_to_is_one_line_everywhere(home, monkeypatch, run):
    monkeypatch.setenv("MUPPET_HOME", home)
    shown = run("show", "boolq", "--source", "samples")
    assert shown.exit_code == 1 and shown.stderr.count("\n") == 1 and "MUPPET_HOME" in shown.stderr
    assert "Traceback" not in shown.output
    with pytest.raises(MuppetError, match="MUPPET_HOME"):
        muppet_dag.load_task("boolq")


def test_the_home_script_says_it_in_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "deployments.local.home"], capture_output=True, text=True,
        env=os.environ | {"MUPPET_HOME": "/dev/null/x", "MUPPET_SOURCE": "samples"},
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "MUPPET_HOME='/dev/null/x'" in done.stderr


def test_a_full_disk_is_a_matter_of_settings(tmp_path):
    def make(_folder: Path, _key: str):
        with open("/dev/full", "w") as file:
            file.write("x")
            file.flush()

    with pytest.raises(MuppetError, match="make room there, or name another folder"):
        Store(tmp_path).build("things/one", make, code_version="1", inputs={})


@pytest.mark.parametrize("data", [b"[", b"\xff\xfea", b"a = '\xe9'", b"a = " + b"[" * 5000])
def test_no_toml_file_gives_another_error_than_bad_config(tmp_path, data):
    (tmp_path / "x.toml").write_bytes(data)
    with pytest.raises(BadConfig, match=r"x\.toml"):
        checks.tables(tmp_path / "x.toml")
