"""A user's own tasks: files of their own, checked, and then tasks like any other."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from muppet_dag import catalogue, pipeline, recipes, samples
from muppet_dag.catalogue import PROBLEMS, TASKS, Slice
from muppet_dag.cli import app
from muppet_dag.corpus import quality, shards
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.errors import BadConfig, BadData, MuppetError
from muppet_dag.store import Artefact, Store

REVIEWS = """
[reviews]
family = "classification"
files = { train = "reviews.csv", validation = "train[:20%]" }
text = "review"
label = "CAST(stars AS INTEGER) >= 4"
classes = ["bad", "good"]
"""
PAIRS = """
[pairs]
family = "classification"
files = { train = "pairs.csv", validation = "pairs.csv" }
text = "text"
label = "label"
classes = ["no", "yes"]
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of tasks with 100 reviews: quotes, line breaks, and more than ASCII."""
    (tmp_path / "tasks").mkdir()
    with (tmp_path / "tasks" / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "stars"])
        rows.writerows([[review(number), number % 5 + 1] for number in range(100)])
    (tmp_path / "tasks" / "mine.toml").write_text(REVIEWS)
    return tmp_path / "tasks"


def review(number: int) -> str:
    return f'Café № {number}, "bon"\nand 007 it was'


def make(folder: Path, name: str = "reviews") -> Artefact:
    catalogue.extend(folder)
    source = DirectorySource(folder.parent)  # any will do
    return pipeline.make_shards(Store(folder.parent / "home"), source, catalogue.get(name))


def rows(artefact: Artefact, split: str = "train") -> list[dict]:
    return shards.read(artefact.path, split).to_pylist()


def pairs(folder: Path, lines: str | bytes, name: str = "pairs.csv", entry: str = PAIRS) -> Path:
    content = lines if isinstance(lines, bytes) else lines.encode()
    (folder / name).write_bytes(content)
    (folder / "pairs.toml").write_text(entry.replace("pairs.csv", name))
    return folder


def test_a_csv_becomes_a_task_with_its_validation_carved_off(folder):
    artefact = make(folder)
    train, validation = rows(artefact), rows(artefact, "validation")
    assert len(train) + len(validation) == 100 and 10 <= len(validation) <= 30
    texts = [row["text"] for row in train + validation]
    assert sorted(texts) == sorted(map(review, range(100)))  # every row once and unchanged
    expected = {review(number): int(number % 5 + 1 >= 4) for number in range(100)}
    assert {row["text"]: row["label"] for row in train + validation} == expected
    assert texts == [t for t in map(review, range(100)) if t in {r["text"] for r in train}] + [
        t for t in map(review, range(100)) if t in {r["text"] for r in validation}
    ]  # in the order of the file
    assert list(artefact.manifest.inputs) == ["file:reviews.csv"]


def test_ids_are_raw_row_numbers(folder):
    for row in rows(make(folder)):
        assert row["id"] == f"train/{[review(n) for n in range(100)].index(row['text'])}"


def test_the_same_content_is_the_same_artefact_wherever_it_lies(folder, tmp_path):
    artefact = make(folder)
    task = catalogue.get("reviews")
    moved = tmp_path / "elsewhere"
    folder.rename(moved)
    again = catalogue.extend(moved)["reviews"]
    assert again.fingerprint == task.fingerprint and again.dataset != task.dataset
    assert make(moved).version == artefact.version
    with (moved / "reviews.csv").open("a", newline="") as file:
        file.write("one more,5\r\n")
    assert make(moved).version != artefact.version


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "ndjson", "parquet"])
def test_other_files(folder, ending):
    columns = {"text": ["a\tb", "2020-01-01", "007", 'ü\n"x"'], "label": [0, 1, 0, 1]}
    if ending == "tsv":  # whose fields hold neither
        columns["text"] = ["a b", "2020-01-01", "007", 'ü "x"']
    path = folder / f"pairs.{ending}"
    if ending == "parquet":
        pq.write_table(pa.table(columns), path)
    elif ending == "tsv":
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.writer(file, delimiter="\t")
            out.writerows([columns.keys(), *zip(*columns.values(), strict=True)])
    else:
        lines = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "pairs.toml").write_text(PAIRS.replace("pairs.csv", path.name))
    read = rows(make(folder, "pairs"))
    assert [(row["text"], row["label"]) for row in read] == list(
        zip(*columns.values(), strict=True)
    )


def test_csv_guesses_nothing(folder):
    """No type, no separator, no row that is skipped; what is empty is missing."""
    text = 'text,label\n007,1\n1.50,0\n2020-01-01,1\n"a;b",0\n#no comment,1\nNULL,0\n,1\n'
    artefact = make(pairs(folder, text), "pairs")
    texts = [row["text"] for row in rows(artefact)]
    assert texts == ["007", "1.50", "2020-01-01", "a;b", "#no comment", "NULL"]
    assert artefact.facts["splits"]["train"]["dropped"] == {"empty text": 1}
    with_bom = pairs(folder, "\ufefftext,label\r\nx,1\r\ny,0\r\nz,1\r\n".encode())
    assert [row["text"] for row in rows(make(with_bom, "pairs"))] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("text,label\na,1\nb\nc,0\n", "line 3: expected 2 fields, found 1"),
        ("text,label\na,1\nb,0,9\n", "line 3: expected 2 fields, found 3"),
        ('text,label\n"a,1\nb,0\n', "line 2: a quote opens here and is not closed"),
        ("text,label\ncaf\xe9,1\n".encode("latin1"), "pairs.csv: cannot be read as UTF-8"),
        ("caf\xe9,label\na,1\n".encode("latin1"), "pairs.csv: cannot be read as UTF-8"),
        ("text,text\na,1\n", "all different"),
        ("", "the first line is []"),
        ("texts,label\na,1\n", "The raw columns are now: texts, label. They are those of "),
        ("text;label\na;1\n", "The raw columns are now: text;label."),
        ("text,label\na,1\nb,often\n", "column 'label', row 1: value 'often'"),
        ("text,label\na,1\nb,2\n", "column 'label', row 1: value '2'"),
        ("text,label\ra,1\r", "line 1: a carriage return"),
        ("text,label\n", "no row is left of 0"),
    ],
)
def test_bad_files_say_where(folder, lines, expected):
    with pytest.raises(MuppetError) as caught:
        make(pairs(folder, lines), "pairs")
    assert expected in str(caught.value)
    assert "pairs" in str(caught.value)


def test_bad_json_says_where(folder):
    with pytest.raises(BadData, match=r"pairs\.jsonl: line 2, column 10"):
        make(pairs(folder, '{"text":"a","label":1}\n{"text": oops}\n', "pairs.jsonl"), "pairs")


def test_a_comparison_without_a_cast_is_told(folder):
    (folder / "mine.toml").write_text(REVIEWS.replace("CAST(stars AS INTEGER)", "stars"))
    with pytest.raises(BadData, match=r"(?s)All are text: a number is had by CAST"):
        make(folder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("text =", "txt ="), "reviews.txt: Unexpected keyword argument"),
        (("text =", 'answers = "a"\ntext ='), "answers: a classification task has id, text"),
        (('text = "review"', ""), "text: a classification task needs it"),
        (('"classification"', '"classify"'), "reviews.family: Input should be 'classification'"),
        (("classes", 'score = "stars"\nclasses'), "label= and classes=, or score="),
        (('["bad", "good"]', '["bad", 1]'), "reviews.classes.1: Input should be a valid string"),
        (('["bad", "good"]', '["bad"]'), "two or more different names"),
        (("classes", 'metrics = ["acuracy"]\nclasses'), "metrics: acuracy; such a classification"),
        (("classes", 'metrics = ["pearson"]\nclasses'), "metrics: pearson"),
        (("classes", "metrics = []\nclasses"), "metrics: none"),
        (
            ("classes", 'held_out = "yes"\nclasses'),
            "held_out: Input should be a valid bool",
        ),
        (('"reviews.csv"', '"nosuch.csv"'), "files.train: there is no file"),
        (('"reviews.csv"', '"reviews.xlsx"'), "files.train = 'reviews.xlsx': expected a file"),
        (('"train[:20%]"', '"trian[:20%]"'), "files.validation = 'trian[:20%]'"),
        (('"train[:20%]"', '"train[40%:60%]"'), "leave one part of it, at either end"),
        (('"train[:20%]"', '"train"'), "leave one part of it"),
        (('"train[:20%]"', '"train[:20%]", test = "train[10%:30%]"'), "overlap"),
        (("files = { train", "files = { dev"), "files.train: expected the file of the training"),
        (("files =", "tasksource = 'x'\nfiles ="), "found files and tasksource"),
        (("files = {", "drop = {"), "found none"),
        (("files = {", "hub = {"), "reviews.hub"),
        (("[reviews]", "[Reviews]"), "only a-z, 0-9 and _"),
        (("[reviews]", "[rte]"), "rte: the catalogue has a task of that name already"),
        (("[reviews]", "[reviews"), "mine.toml: "),
    ],
)
def test_bad_entries_are_refused_with_file_and_key(folder, change, expected):
    (folder / "mine.toml").write_text(REVIEWS.replace(*change, 1))
    before = dict(TASKS)
    assert catalogue.extend(folder) == {} and before == TASKS
    (problem,) = PROBLEMS.values()
    assert expected in problem and "mine.toml" in problem


def test_two_files_may_not_declare_one_name(folder):
    (folder / "more.toml").write_text(REVIEWS)
    assert catalogue.extend(folder) == {}
    with pytest.raises(BadConfig, match=r"more\.toml: reviews: .*mine\.toml has a task"):
        catalogue.get("reviews")
    with pytest.raises(BadConfig, match="no such folder"):
        catalogue.extend(folder / "nosuch")


def test_what_the_other_keys_mean(folder):
    (folder / "mine.toml").write_text(
        '[sts]\nfamily = "classification"\ntext = "a"\nquery = "b"\nscore = "s / 5"\n'
        'score_range = [0.0, 1.0]\nheld_out = true\nlicence = "mit"\nrows = { train = 7 }\n'
        'drop = { "no score" = "s < 0" }\n'
        'hub = { repository = "me/sts", config = "en", validation = "train[:5%]", '
        'train = "train[5%:]" }\n'
        '[qa]\nfamily = "commonsense"\nhub = { repository = "me/qa", validation = "" }\n'
        'query = "q"\nchoices = "[a, b]"\nlabel = "l"\n'
    )
    tasks = catalogue.extend(folder)
    sts, qa = tasks["sts"], tasks["qa"]
    assert sts.metrics == ("pearson", "spearman") and sts.held_out and sts.score_range == (0, 1)
    assert sts.dataset.slices == {"train": Slice("train", 5), "validation": Slice("train", 0, 5)}
    assert sts.drop == {"no score": "s < 0"} and sts.rows == {"train": 7} and sts.licence == "mit"
    assert qa.dataset.splits == {"train": "train"} and qa.columns["text"] == "''"


def test_python_entries(folder):
    (folder / "mine.toml").unlink()
    (folder / "mine.py").write_text(
        "from muppet_dag.catalogue.task import classification, files\n"
        "STARS = 'CAST(stars AS INTEGER)'\n"
        "reviews = classification(files('reviews.csv', test='train[80%:]'), text='review',\n"
        "    label=f'{STARS} >= 4', classes=('bad', 'good'))\n"
    )
    assert set(catalogue.extend(folder)) == {"reviews"}
    task = catalogue.get("reviews")
    assert task.dataset.slices == {"train": Slice("train", 0, 80), "test": Slice("train", 80)}
    assert make(folder).facts["splits"].keys() == {"train", "test"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("def", "SyntaxError"),
        ("from muppet_dag.catalogue.classification import rte", "has a task of that name already"),
        (
            "from muppet_dag.catalogue.task import files, summarization\n"
            "a = summarization(files('reviews.csv'), text='a', target='b', metrics=('bleu',))",
            "a: metrics: bleu",
        ),
    ],
)
def test_bad_python_names_the_file(folder, code, expected):
    (folder / "bad.py").write_text(code)
    assert list(catalogue.extend(folder)) == ["reviews"]
    (problem,) = PROBLEMS.values()
    assert expected in problem and "bad.py" in problem


def test_once_more_changes_nothing_and_an_edit_counts(folder):
    assert catalogue.extend(folder) == catalogue.extend(folder)
    (folder / "mine.toml").write_text(REVIEWS.replace(">= 4", ">= 3"))
    assert ">= 3" in catalogue.extend(folder)["reviews"].columns["label"]
    assert TASKS["reviews"].columns["label"].endswith(">= 3")


def test_samples_are_of_the_shipped_tasks_only(folder, tmp_path):
    before = samples.version()
    catalogue.extend(folder)
    assert samples.version() == before
    with pytest.raises(BadConfig, match="your own"):
        samples.make(tmp_path / "samples", tasks=["reviews"])


def test_the_way_to_tokens_and_into_mixtures(folder, tmp_path):
    artefact = make(folder)
    store = Store(tmp_path / "home")
    recipe = recipes.get("demo")
    assert "reviews" in recipe.select(TASKS)
    pipeline.make_base(store, recipe.base("tiny-bert"))
    tokens = pipeline.make_tokens(store, recipe, "tiny-bert", catalogue.get("reviews"))
    counts = {split: split_facts["rows"] for split, split_facts in artefact.facts["splits"].items()}
    assert {
        split: split_facts["rows"] for split, split_facts in tokens.facts["splits"].items()
    } == counts
    held_out = {**TASKS, "reviews": replace(TASKS["reviews"], held_out=True)}
    assert "reviews" not in recipe.select(held_out)


def test_the_command_line_and_the_asset_graph(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MUPPET_TASKS", str(folder))
    monkeypatch.setenv("MUPPET_HOME", str(tmp_path / "home"))
    output = CliRunner().invoke(app, ["show", "reviews", "--rows", "2"]).stdout
    assert "file:reviews.csv at sha256-" in output and "№ 1" in output and "label 1" not in output
    assert "file/reviews.csv" in CliRunner().invoke(app, ["tasks"]).stdout
    (folder / "mine.toml").write_text(REVIEWS)

    import dagster as dg
    from dag import run

    from deployments.local.settings import Settings

    settings = replace(Settings.read(), source=str(tmp_path), model="tiny-bert")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(settings, instance, "shards/reviews").success


def test_a_part_of_a_handful_of_rows_may_be_empty(folder):
    """Two rows have no tenth: the task is made, and says that it has no validation split."""
    text = '"Warm bread, warm welcome.",5\n"The soup was cold,\nand so was the waiter.",1\n'
    (folder / "reviews.csv").write_text("review,stars\n" + text)
    (folder / "mine.toml").write_text(REVIEWS.replace("20%", "10%"))
    artefact = make(folder)
    assert len(rows(artefact)) == 2 and shards.splits(artefact.path) == ["train"]
    assert artefact.facts["missing"] == ["validation"]
    findings = quality.examine(catalogue.get("reviews"), artefact.path, artefact.facts)
    (finding,) = [each for each in findings if each.name == "splits"]
    assert not finding.passed and "no validation" in finding.note
