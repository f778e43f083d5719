"""What people type: rows as they come and as they are used, lineage, and errors in one line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from muppet_dag import catalogue, pipeline, recipes, samples
from muppet_dag.cli import app
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.store import Artefact, Store

TASK = "rte"


@pytest.fixture
def source(tmp_path) -> Path:
    return samples.make(tmp_path / "source", train_rows=20, evaluation_rows=10, tasks=[TASK])


@pytest.fixture
def run(source, tmp_path, monkeypatch):
    monkeypatch.setenv("MUPPET_SOURCE", str(source))
    monkeypatch.setenv("MUPPET_HOME", str(tmp_path / "home"))
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def two_levels(store, source) -> tuple[Artefact, Artefact]:
    """Shards of samples, and something made of them."""
    shards = pipeline.make_shards(store, DirectorySource(source), catalogue.get(TASK))

    def make(folder: Path, _key: str) -> dict:
        (folder / "words.txt").write_text("few")
        return {"rows": 7, "long": "x" * 99, "nested": {"rows": 8}}

    inputs = {shards.manifest.name: shards.version}
    return shards, store.build("tokens/rte", make, code_version="1", inputs=inputs)


def refused(result) -> str:
    """The message of a run that failed as it should: one line, no traceback."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert result.stdout == "" and "Traceback" not in result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


def train_file(source: Path) -> Path:
    return next(source.rglob("train-*.parquet"))


def test_tasks_lists_the_whole_catalogue(run):
    output = run("tasks").stdout
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    for task in catalogue.TASKS.values():
        line = lines[task.name]
        assert task.family in line and task.dataset.repository in line and task.licence in line
    assert f"{len(catalogue.TASKS)} tasks" in output
    mnli = lines["mnli"].split()
    assert mnli[:5] == ["mnli", "classification", "392,702", "3", "accuracy"]
    assert mnli[-2:] == ["nyu-mll/glue", "mnli"]
    for task in catalogue.TASKS.values():
        assert ("evaluation only" in lines[task.name]) == task.held_out


def test_tasks_of_one_family(run):
    output = run("tasks", "--family", "mrc").stdout
    assert "squad" in output and "mnli" not in output and "exact_match, f1" in output
    assert "expected one of classification" in refused(run("tasks", "--family", "nosuch"))


def test_show_puts_raw_and_normalised_side_by_side(run, source):
    output = run("show", TASK, "--rows", 2).stdout
    raw = pq.read_table(train_file(source)).slice(0, 3).to_pylist()
    version = DirectorySource(source).version(catalogue.get(TASK).dataset)
    assert f"directory:nyu-mll/glue/rte at {version}" in output
    for number, row in enumerate(raw[:2]):
        line = next(line for line in output.splitlines() if line.strip().startswith(f"{number} "))
        assert "sentence1" in line and "id" in line
        assert output.count(row["sentence2"][:20]) >= 2  # on either side
    assert raw[2]["sentence1"] not in output and "train/0" in output and "dropped" not in output


def test_show_says_why_a_row_is_dropped(run, source):
    path = train_file(source)
    table = pq.read_table(path)
    labels = [-1 if row == 1 else label for row, label in enumerate(table["label"].to_pylist())]
    at = table.schema.get_field_index("label")
    changed = table.set_column(at, table.schema.field("label"), pa.array(labels, pa.int64()))
    pq.write_table(changed, path)
    output = run("show", TASK).stdout
    assert output.count("dropped: unlabelled") == 1
    rows = re.split(r"^\s*(?=\d+ )", output, flags=re.MULTILINE)[1:]
    assert ["dropped" in row for row in rows] == [False, True, False]
    assert "train/1" in rows[1]


def test_show_says_that_a_label_is_no_whole_number(run, source):
    table = pq.read_table(path := train_file(source))
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, "label", pa.array([0.5] + [1.0] * 19)), path)
    assert run("show", TASK).stdout.count("label '0.5': expected a whole number") == 1


def test_show_from_the_built_in_samples(run):
    output = run("show", TASK, "--split", "validation", "--source", "samples").stdout
    assert "validation/0" in output


def test_show_refuses_what_is_not_there(run, source):
    assert "did you mean rte" in refused(run("show", "rtee"))
    nothing_like_it = refused(run("show", "qwertyuiop"))
    assert "muppet-dag tasks lists them" in nothing_like_it and "squad" not in nothing_like_it
    assert "it has train, validation" in refused(run("show", TASK, "--split", "dev"))
    assert "no such folder" in refused(run("show", TASK, "--source", "/nowhere/at/all"))
    assert "no parquet file of config 'cola'" in refused(run("show", "cola"))
    next(source.rglob("validation-*.parquet")).unlink()
    assert "but train" in refused(run("show", TASK, "--split", "validation"))


def test_recipes_lists_shipped_and_own(run, tmp_path):
    output = run("recipes").stdout
    lines = {line.split()[0]: line for line in output.splitlines() if line.strip()}
    for recipe in recipes.load_all().values():
        mixture = recipe.mixture
        assert mixture.strategy in lines[recipe.name] and mixture.batching in lines[recipe.name]
    muppet = recipes.get("muppet")
    tasks = str(len(muppet.select(catalogue.TASKS)))
    assert lines["muppet"].split()[1:4] == [muppet.model.base, tasks, "natural"]
    assert "3 epochs" in lines["muppet"] and muppet.description in lines["muppet"]
    assert "proportional (K = 524,288)" in lines["t5-proportional"]
    (tmp_path / "mine.toml").write_text('extends = "muppet"\n[mixture]\nsteps = 7')
    output = run("recipes", "--recipes", tmp_path).stdout
    assert "7 steps" in next(line for line in output.splitlines() if line.startswith(" mine"))
    assert "no such folder" in refused(run("recipes", "--recipes", "/nowhere/at/all"))


def test_recipe_shows_what_runs(run, tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text('extends = "muppet"\n[training]\nloss_scaling = false')
    monkeypatch.setenv("MUPPET_RECIPES", str(tmp_path))
    output = run("recipe", "mine").stdout
    shown, muppet = tomllib.loads(output), tomllib.loads(run("recipe", "muppet").stdout)
    assert output.startswith("# mine\n") and shown["training"].pop("loss_scaling") is False
    assert muppet["training"].pop("loss_scaling") is True
    assert muppet.pop("description") and shown.pop("description") == ""
    assert shown == muppet and shown["training"]["dropout"] == 0.1
    assert "unknown recipe 'mupet'" in refused(run("recipe", "mupet"))
    (tmp_path / "mine.toml").write_text('extends = "mupet"')
    assert "mine.toml: extends: unknown recipe 'mupet'" in refused(run("recipe", "mine"))
    assert run("recipe", "muppet").exit_code == 0


def test_lineage_goes_down_to_the_leaf(run, source, two_levels):
    shards, tokens = two_levels
    output = run("lineage", tokens.path).stdout
    top, middle, leaf = output.rstrip().splitlines()
    assert f"tokens/rte  {tokens.version[:12]}  rows 7" in top and "long" not in top
    assert f"shards/rte  {shards.version[:12]}  train 20, validation 10 rows" in middle
    version = DirectorySource(source).version(catalogue.get(TASK).dataset)
    assert f"directory:nyu-mll/glue/rte  {version}" in leaf
    depths = [re.search(r"\w", line).start() for line in (top, middle, leaf)]
    assert depths == sorted(set(depths))


def test_lineage_of_a_name_is_that_of_its_current_version(run, store, two_levels):
    _, tokens = two_levels
    assert run("lineage", store.folder("tokens/rte")).stdout == run("lineage", tokens.path).stdout


def test_lineage_refuses_what_is_broken(run, tmp_path, store, two_levels):
    shards, tokens = two_levels
    assert "not a finished artefact" in refused(run("lineage", tmp_path / "nowhere"))
    assert "not a finished artefact" in refused(run("lineage", store.root))
    (shards.path / "manifest.json").unlink()
    assert str(shards.path) in refused(run("lineage", tokens.path))
    (store.folder("tokens/rte") / "current").write_text("{")
    shutil.rmtree(store.folder("tokens/rte") / "made")
    assert "not the pointer" in refused(run("lineage", store.folder("tokens/rte")))


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from muppet_dag.cli import app\n"
        "assert 'lineage' in CliRunner().invoke(app, ['--help']).stdout\n"
        "print([m for m in ('torch', 'pyarrow', 'duckdb', 'pydantic') if m in sys.modules])"
    )
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        taken.append(time.perf_counter() - start)
        assert done.stdout.strip() == "[]", done.stderr
    assert min(taken) < 2  # under 0.5 s on a quiet machine


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", b"{", "not the manifest"),
        ("manifest.json", b"[]", "not the manifest"),
        ("manifest.json", b'{"name": "a"}', "not the manifest"),
        ("manifest.json", b"\xff\xfe", "not the manifest"),
        ("manifest.json", b'{"name": "a/b", "content_hash": "1", "code_version": "1", '
         b'"inputs": "x", "parameters": {}, "files": {}}', "not the manifest"),
        ("current", b"oops", "not the pointer"),
        ("current", b'{"content_hash": 3}', "not the pointer"),
        ("current", b'{"content_hash": "../x"}', "not the pointer"),
        ("file.txt", b"", "no manifest.json"),
    ],
)  # fmt: skip
def test_lineage_of_what_is_no_artefact_is_one_line(run, tmp_path, name, content, message):
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing" / name).write_bytes(content)
    assert message in refused(run("lineage", tmp_path / "thing"))
    assert "no manifest.json" in refused(run("lineage", tmp_path / "thing" / "nosuch"))


def test_a_row_that_would_steer_the_terminal_is_shown_and_does_nothing(tmp_path):
    evil = "\x1b]0;owned\x07\x9b2J\u202egnp\u200b\ufeff\r"
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "evil.tsv").write_text(
        f"text\tlabel\tnote{evil.strip()}\nfine{evil[:-1]}\t1\t{evil[:-1]}\n"
    )
    (folder / "evil.toml").write_text(
        '[evil]\nfamily = "classification"\nfiles = { train = "evil.tsv" }\n'
        'text = "text"\nlabel = "CAST(label AS BIGINT)"\nclasses = ["a", "b"]\n'
        '[worse]\nfamily = "classification"\nfiles = { train = "evil.tsv" }\ntext = "nothing"\n'
        'label = "label"\nclasses = ["a", "b"]\n'
    )
    for words in (("show", "evil"), ("show", "worse")):
        done = subprocess.run(
            [sys.executable, "-c", "from muppet_dag.cli import app; app()", *words],
            capture_output=True,
            env={**os.environ, "MUPPET_TASKS": str(folder), "MUPPET_HOME": str(tmp_path)},
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode()
        assert "fine" in said or "note" in said, said
        assert not set(said) & set("\x1b\x07\x9b\u202e\u200b\ufeff\r"), said
