"""The command line: the catalogue, a task's rows, recipes, and where an artefact comes from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muppet_dag import disk, settings
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.text import console, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from muppet_dag.catalogue import Task
    from muppet_dag.recipes import MixtureSection, Recipe
    from muppet_dag.store import Manifest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold tokens
)

_WIDE = 220  # columns where there is no terminal to ask
_LONGEST = 400  # characters shown of one value

_Recipes = Annotated[
    Path | None,
    typer.Option("--recipes", envvar="MUPPET_RECIPES", help="A folder with more recipes."),
]


@app.command()
def tasks(
    family: Annotated[str | None, typer.Option(help="Only the tasks of this family.")] = None,
) -> None:
    """List the tasks of the catalogue."""
    with _plain_errors():
        from muppet_dag import catalogue

        if family not in (None, *catalogue.FAMILIES):
            raise BadConfig(f"family {family!r}: expected one of {', '.join(catalogue.FAMILIES)}")
        _print_tasks([t for t in catalogue.TASKS.values() if family in (None, t.family)])
        _print_problems("task", catalogue.PROBLEMS)


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="A task of the catalogue.")],
    rows: Annotated[int, typer.Option(min=1, help="How many raw rows.")] = 3,
    split: Annotated[str, typer.Option(help="Its role: train, validation, …")] = "train",
    source: Annotated[
        str, typer.Option(envvar="MUPPET_SOURCE", help="hub, samples, or a folder laid out as it.")
    ] = "hub",
    home: Annotated[
        Path, typer.Option(envvar="MUPPET_HOME", help="Where artefacts live.")
    ] = Path("~/.muppet-dag"),
) -> None:  # fmt: skip
    """Show the first rows of a task, as they come and as they are normalised."""
    with _plain_errors():
        from muppet_dag import catalogue, pipeline
        from muppet_dag.store import Store

        entry = catalogue.get(task)
        place = pipeline.source_of(entry.dataset, pipeline.open_source(source, Store(home)))
        version = place.version(entry.dataset)
        files = place.fetch(entry.dataset, version)
        paths = _files(entry, split, files)
        typer.echo(printable(f"{place.label(entry.dataset)} at {version}"))
        _print_rows(entry, _raw(entry, paths, rows), _normalised(entry, split, paths, rows), split)


@app.command()
def lineage(
    path: Annotated[Path, typer.Argument(help="An artefact, or the folder of its versions.")],
) -> None:
    """Show what an artefact was made from, down to every dataset's commit."""
    with _plain_errors():
        from rich.tree import Tree

        from muppet_dag import store

        tree = Tree("", hide_root=True)
        above = [tree]
        for depth, name, version, manifest in store.lineage(_artefact(path)):
            del above[depth + 1 :]
            above.append(above[depth].add(_node(name, version, manifest)))
        _console().print(tree)


@app.command("recipes")
def list_recipes(folder: _Recipes = None) -> None:
    """List the shipped recipes and your own."""
    with _plain_errors():
        from muppet_dag import pipeline, recipes

        known, problems = recipes.read_all(*_folders(folder))
        tasks: dict[str, list[str]] = {}
        for name, recipe in known.items():
            try:
                tasks[name] = pipeline.select(recipe)
            except BadConfig as error:
                problems[name] = str(error)
        _print_recipes([(known[name], len(tasks[name])) for name in sorted(tasks)])
        _print_problems("recipe", problems)


@app.command()
def recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe, or one of your own.")],
    folder: _Recipes = None,
) -> None:
    """Show a recipe in full: what it extends and every default, as TOML."""
    with _plain_errors():
        from muppet_dag import recipes
        from muppet_dag.recipes.write import toml

        typer.echo(printable(toml(recipes.get(name, *_folders(folder)))), nl=False)


@app.callback()
def main(
    context: typer.Context,
    tasks: Annotated[
        Path | None, typer.Option(envvar="MUPPET_TASKS", help="A folder with tasks of your own.")
    ] = None,
) -> None:
    """Massive multi-task pre-finetuning: the catalogue, its rows, and lineage."""
    if tasks:
        with _plain_errors():
            from muppet_dag import catalogue

            catalogue.extend(tasks)
            if context.invoked_subcommand != "tasks":  # which lists them
                for problem in catalogue.PROBLEMS.values():
                    _complain(f"left out: {problem}")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors of data and settings end the program with one line, not with a traceback."""
    try:
        yield
    except MuppetError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    except Exception as error:  # a disk or a network; a bug keeps its traceback
        problem = disk.explained(error, Path.cwd())
        if not problem and not isinstance(error, OSError):
            raise
        place = getattr(error, "filename", None) or type(error).__name__
        _complain(str(problem or f"{place}: {getattr(error, 'strerror', None) or error}"))
        raise typer.Exit(1) from error


def _complain(text: str) -> None:
    line = " ".join(text.split())
    console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    width = None if sys.stdout.isatty() else _WIDE
    return console(width=width, highlight=False, markup=False)


def _print_tasks(entries: Sequence[Task]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "task", "family", "train rows", "classes", "metrics", "use", "licence", "source",
    ):  # fmt: skip
        table.add_column(heading, justify="right" if heading == "train rows" else "left")
    for task in entries:
        table.add_row(
            task.name, task.family, _train_rows(task), _classes(task), ", ".join(task.metrics),
            "evaluation only" if task.held_out else "mixtures", task.licence,
            f"{task.dataset.repository} {task.dataset.config}",
        )  # fmt: skip
    _console().print(table)
    typer.echo(f"{len(entries)} tasks")


def _print_problems(kind: str, problems: Mapping[str, str]) -> None:
    """What cannot be used, by name, and why."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not problems:
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(kind)
    table.add_column("cannot be used: why", overflow="fold")
    for name, problem in problems.items():
        table.add_row(Text(name), Text(problem, "red"))
    _console().print(table)


def _train_rows(task: Task) -> str:
    """Official rows of the training split; about, where another part of it serves elsewhere."""
    part = task.dataset.slices["train"]
    if part.split not in task.rows:
        return "–"
    share = (part.high - part.low) / 100
    return ("~" if share < 1 else "") + f"{round(task.rows[part.split] * share):,}"


def _classes(task: Task) -> str:
    if task.score_range:
        return "{:g} to {:g}".format(*task.score_range)
    return str(len(task.classes)) if task.classes else "–"


def _folders(folder: Path | None) -> list[Path]:
    return [settings.folder(folder, "MUPPET_RECIPES")] if folder else []


def _print_recipes(recipes: Sequence[tuple[Recipe, int]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("recipe", "base", "tasks", "strategy", "batching", "budget", "description"):
        table.add_column(heading, justify="right" if heading == "tasks" else "left")
    for each, tasks in recipes:
        mixture, base = each.mixture, each.model.base or "MUPPET_MODEL"
        budget = f"{mixture.steps:,} steps" if mixture.steps else f"{mixture.epochs} epochs"
        table.add_row(
            each.name, base, str(tasks), _strategy(mixture), mixture.batching,
            budget, each.description,
        )  # fmt: skip
    _console().print(table)


def _strategy(mixture: MixtureSection) -> str:
    """The strategy with the numbers it goes by, and what its shares count."""
    numbers = [f"T = {mixture.temperature:g}"] if mixture.temperature else []
    numbers += [f"K = {mixture.limit:,}"] if mixture.limit else []
    name = f"{mixture.strategy} ({', '.join(numbers)})" if numbers else mixture.strategy
    return name if mixture.strategy == "natural" else f"{name}, by {mixture.weight_unit}"


def _files(task: Task, role: str, files: Mapping[str, list[Path]]) -> list[Path]:
    slices = task.dataset.slices
    if role not in slices:
        raise BadConfig(f"task {task.name!r} has no split {role!r}; it has {', '.join(slices)}")
    if slices[role].split not in files:
        there = ", ".join(sorted(files))
        raise MuppetError(f"the source has no {slices[role].split!r} of {task.name!r}, but {there}")
    return files[slices[role].split]


def _raw(task: Task, paths: Sequence[Path], count: int) -> list[dict[str, Any]]:
    import duckdb

    from muppet_dag.corpus.raw.readers import RAW, opened
    from muppet_dag.corpus.stream import quote_sign

    try:
        with opened(paths, quote=quote_sign(task)) as raw:
            return raw.con.sql(f"FROM {RAW} LIMIT {count}").to_arrow_table().to_pylist()
    except duckdb.Error as error:
        raise MuppetError(f"{paths[0]}: {error}") from error


def _normalised(task: Task, role: str, paths: Sequence[Path], count: int) -> list[dict[str, Any]]:
    from muppet_dag.corpus.stream import stream

    rows: list[dict[str, Any]] = []
    for batch in stream(task, task.dataset.slices[role], paths, role=role):
        rows += batch.slice(0, count - len(rows)).to_pylist()
        if len(rows) == count:
            break
    return [{**row, "id": row["id"] or f"{role}/{number}"} for number, row in enumerate(rows)]


def _print_rows(
    task: Task, raw: list[dict[str, Any]], rows: list[dict[str, Any]], split: str
) -> None:
    from rich import box
    from rich.table import Table

    from muppet_dag.corpus import values

    table = Table(box=box.SIMPLE_HEAD, show_lines=True, pad_edge=False)
    table.add_column("row", justify="right")
    table.add_column("raw", ratio=1)
    table.add_column(split, ratio=1)
    for number, (before, after) in enumerate(zip(raw, rows, strict=True)):
        reason, problem, _ = (after.pop(name) for name in ("dropped", "problem", "counted"))
        cell = _pairs({name: value for name, value in after.items() if value is not None})
        if reason:
            cell.append(f"\ndropped: {reason}", "red")
        elif problem:
            rule = values.rule(task, problem["kind"])
            cell.append(f"\n{rule.column} {problem['value']!r}: expected {rule.expected}", "red")
        table.add_row(str(number), _pairs(before), cell)
    _console().print(table)


def _pairs(row: Mapping[str, Any]) -> Text:
    """One line a column: its name, dim, and its value as JSON, cut where it is long."""
    from rich.text import Text

    text = Text()
    for index, (name, value) in enumerate(row.items()):
        shown = json.dumps(value, ensure_ascii=False, default=str)
        shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
        text.append("\n" if index else "").append(f"{name} ", "dim").append(shown)
    return text


def _artefact(path: Path) -> Path:
    """The artefact itself, or the current one of the folder of its versions."""
    from muppet_dag.store.pointers import current

    version = current(path)
    return path / version if version else path


def _node(name: str, version: str, manifest: Manifest | None) -> Text:
    from rich.text import Text

    text = Text(name, "bold" if manifest else "cyan")
    text.append(f"  {version[:12] if manifest else version}", "not bold dim")
    return text.append(f"  {_facts(manifest.facts)}" if manifest else "", "not bold")


def _facts(facts: Mapping[str, Any]) -> str:
    """Rows by split, where there are splits, and else the facts that are short."""
    if "splits" in facts:
        rows = ", ".join(f"{role} {split['rows']:,}" for role, split in facts["splits"].items())
        return f"{rows} rows"
    plain = ((k, v) for k, v in facts.items() if isinstance(v, int | float | str))
    short = [f"{name} {value}" for name, value in plain if len(str(value)) < 40]
    return ", ".join(short[:4])
