"""Every example of the README runs as it is printed."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

import muppet_dag
from muppet_dag import catalogue, recipes, samples
from muppet_dag.cli import app
from muppet_dag.errors import BadConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: File names are said in the text before an example.
_NAMED = re.compile(r"`((?:\w+/)?\w+\.(?:csv|toml))`(?![\s\S]*`(?:\w+/)?\w+\.(?:csv|toml)`)")


class Example(NamedTuple):
    """A block of the README: its language, its text, and the paragraph above it."""

    language: str
    text: str
    above: str


def _fenced() -> Iterator[Example]:
    for block in re.finditer(r"```(\w+)\n(.*?)```", README, re.DOTALL):
        yield Example(block[1], block[2], README[: block.start()].rstrip().rsplit("\n\n", 1)[-1])


def _commands() -> list[str]:
    """The indented lines, without their comments."""
    bare = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    lines = re.findall(r"(?:^\n|\A)((?:    \S.*\n)+)", bare, re.MULTILINE)
    return [re.split(r"\s+# ", line.strip())[0] for block in lines for line in block.splitlines()]


EXAMPLES, COMMANDS = list(_fenced()), _commands()


def _of(language: str, word: str = "") -> list[Example]:
    return [e for e in EXAMPLES if e.language == language and word in e.text]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Where the examples are written down under the names that the README gives them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUPPET_HOME", str(tmp_path / "home"))
    (tmp_path / "tasks").mkdir()
    for example in _of("csv") + [e for e in _of("toml") if "extends" not in e.text]:
        if name := _NAMED.search(example.above):
            (tmp_path / name[1]).write_text(example.text, encoding="utf-8")
    return tmp_path


def test_every_example_is_looked_at():
    assert {example.language for example in EXAMPLES} == {"python", "csv", "toml"}
    assert len(_of("python")) == len(_of("python", "hub(")) + len(_of("python", "files(")) + 1
    assert {line.split()[1] for line in COMMANDS if line.startswith("muppet-dag")} == {
        "show", "recipes", "recipe",
    }  # fmt: skip


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_make_knows_its_targets(command):
    target = command.split()[1]
    assert re.search(rf"^{re.escape(target.replace('.venv', '$(VENV)'))}:",
                     (ROOT / "Makefile").read_text(), re.MULTILINE)  # fmt: skip


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([\w.]+)", README))))
def test_modules_that_are_run_are_there(module):
    assert importlib.util.find_spec(module)


@pytest.mark.parametrize("kind", ["toml", "py"])
def test_a_task_of_ones_own(folder, monkeypatch, kind):
    if kind == "py":
        (folder / "tasks" / "mine.toml").unlink()
        (code,) = _of("python", "files(")
        (folder / "tasks" / "mine.py").write_text(code.text)
    monkeypatch.setenv("MUPPET_TASKS", "tasks")
    assert "export MUPPET_TASKS=tasks" in COMMANDS
    tables = muppet_dag.load_task("reviews")
    labels = {split: table["label"].to_pylist() for split, table in tables.items()}
    assert {split: set(each) for split, each in labels.items()} == {
        "train": {0, 1}, "validation": {0, 1},
    }  # fmt: skip
    raw = (folder / "tasks" / "reviews.csv").read_text().count('"') // 2
    assert raw and sum(map(len, labels.values())) == 8
    shown = CliRunner().invoke(app, ["show", "reviews"])
    assert shown.exit_code == 0 and "and so was the waiter" in shown.stdout


def test_a_task_of_ones_own_in_the_dag(folder, monkeypatch):
    import dagster as dg
    from dag import run

    from deployments.local.settings import Settings

    monkeypatch.setenv("MUPPET_TASKS", "tasks")
    monkeypatch.setenv("MUPPET_SOURCE", str(folder))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(Settings.read(), instance, "shards/reviews")
        checks = {each.check_name: each.passed for each in result.get_asset_check_evaluations()}
    assert result.success and all(checks.values()) and checks["labels"]


@pytest.mark.parametrize("example", _of("toml", "tasksource"))
def test_a_task_of_another_package(folder, example):
    (folder / "tasks" / "more.toml").write_text(example.text)
    (name,) = tomllib.loads(example.text)
    if importlib.util.find_spec("tasksource"):
        assert name in catalogue.extend(folder / "tasks")
    else:
        catalogue.extend(folder / "tasks")
        with pytest.raises(BadConfig, match="tasksource is not installed"):
            catalogue.get(name)


def test_an_entry_of_the_catalogue(folder):
    (example,) = _of("python", "hub(")
    imports = "from muppet_dag.catalogue.task import classification, hub\n"
    (folder / "tasks" / "more.py").write_text(imports + example.text)
    assert catalogue.extend(folder / "tasks")["subj"].classes == ("objective", "subjective")


def test_rows_from_python(folder, monkeypatch):
    (example,) = _of("python", "load_task(")
    samples.make(folder / "raw", train_rows=8, evaluation_rows=4, tasks=["boolq"])
    monkeypatch.setenv("MUPPET_SOURCE", str(folder / "raw"))
    names: dict = {}
    exec(example.text, names)
    assert names["tables"]["train"].num_rows == 8


@pytest.mark.parametrize("example", _of("toml", "extends"))
def test_a_recipe_of_ones_own(tmp_path, monkeypatch, example):
    name = _NAMED.search(example.above)[1]
    (tmp_path / name).write_text(example.text)
    monkeypatch.setenv("MUPPET_RECIPES", str(tmp_path))
    for command in (line for line in COMMANDS if line.startswith("muppet-dag recipe")):
        shown = CliRunner().invoke(app, command.split()[1:])
        assert shown.exit_code == 0, shown.output
        assert Path(name).stem in shown.stdout or "muppet" in shown.stdout
    assert recipes.get(Path(name).stem, tmp_path).name == Path(name).stem
