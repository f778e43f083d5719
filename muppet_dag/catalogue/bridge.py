"""Tasks of the ``tasksource`` package, by id, in our schema.

The package declares hundreds of tasks in one Python module, most of them as plain column names.
That module is read here and never run: importing it takes a dozen libraries, and its mappings run
row by row in Python. What is declared as code rather than as columns is refused, with the reason.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping, Sequence

from muppet_dag.catalogue.declared import (
    Declaration,
    Refused,
    choice_columns,
    column_sql,
    declarations,
    is_constant,
    is_name,
    literal,
    parse_name,
    text_sql,
)
from muppet_dag.catalogue.sql import key_index
from muppet_dag.catalogue.task import HubDataset, Task, classification, commonsense, hub
from muppet_dag.errors import BadConfig

#: Arguments that change no row, or that say what is done here anyway (unlabelled rows go).
_HARMLESS = {"post_process": "remove_neg_1"}
_LETTERS = "['A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J']"


def from_tasksource(
    id: str,
    *,
    classes: Sequence[str] | None = None,
    splits: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Task:
    """The task of that id. BadConfig if there is none, or if it is not made of plain columns.

    ``classes`` names the classes where the package leaves them to the data, ``splits`` replaces
    the raw splits by role, ``columns`` replaces single expressions.
    """
    declared = declarations()
    if id not in declared:
        near = difflib.get_close_matches(id, declared, n=3)
        fix = f"; did you mean {', '.join(near)}?" if near else ""
        raise BadConfig(f"tasksource = {id!r}: the package has no such task{fix}")
    declaration = declared[id]
    try:
        dataset, columns = _dataset(declaration, splits), dict(columns or {})
        if declaration.template == "Classification":
            task = _classification(declaration, dataset, classes, columns)
        elif declaration.template == "MultipleChoice":
            task = _multiple_choice(declaration, dataset, columns)
        else:
            raise Refused(f"its template {declaration.template} is none of ours")
    except Refused as error:
        raise BadConfig(f"tasksource = {id!r} cannot be bridged: {error}") from error
    return task


def _dataset(declaration: Declaration, splits: Mapping[str, str] | None) -> HubDataset:
    for key in ("pre_process", "post_process"):
        code = declaration.arguments.get(key)
        if code is not None and _HARMLESS.get(key) != ast.unparse(code):
            raise Refused(f"its rows are prepared by Python code ({key})")
    name = declaration.value("dataset_name") or parse_name(declaration.variable)[0]
    name = declaration.names["CANONICAL"].get(name, name)
    if "/" not in name:
        raise Refused(f"its dataset {name!r} is no repository of the Hub")
    if isinstance(declaration.arguments.get("config_name"), ast.ListComp):
        raise Refused("its configs are listed by Python code")
    kwargs = declaration.value("load_dataset_kwargs", {})
    if other := set(kwargs) - {"revision", "data_dir", "name"}:
        raise Refused(f"it reads loose files ({', '.join(sorted(other))})")
    config = kwargs.get("name") or kwargs.get("data_dir") or declaration.config or "default"
    revision = kwargs.get("revision", "main")
    return hub(name, config, revision=revision, **(splits or _splits(declaration)))


def _splits(declaration: Declaration) -> dict[str, str | None]:
    """Raw splits by role. What has no validation split gets one carved, as in our catalogue."""
    named = declaration.value("splits")
    if named is None:  # train, validation, test; but whether a test split has labels is not said
        return {"train": "train", "validation": "validation"}
    train, validation, test = named
    if train is None:
        raise Refused("it has no training split; give splits")
    if validation is None and test:
        return {"train": train, "validation": f"{test}[:50%]", "test": f"{test}[50%:]"}
    if validation is None:
        return {"train": f"{train}[5%:]", "validation": f"{train}[:5%]"}
    return {"train": train, "validation": validation, "test": test}


def _classification(
    declaration: Declaration,
    dataset: HubDataset,
    classes: Sequence[str] | None,
    columns: dict[str, str],
) -> Task:
    if "sentence2" not in declaration.arguments and "query" not in columns:
        # The package then takes a column named sentence2, if the data has one.
        if "sentence1" not in declaration.arguments or is_constant(
            declaration.arguments["sentence1"], "sentence1"
        ):
            raise Refused(
                'whether it has a sentence2 is in the data only: give query = "sentence2" or "NULL"'
            )
    elif "query" not in columns and not is_constant(declaration.arguments["sentence2"], None):
        columns["query"] = declaration.sql("sentence2")
    if "text" not in columns:
        columns["text"] = (
            declaration.sql("sentence1") if "sentence1" in declaration.arguments else '"sentence1"'
        )
    named, label = _labels(declaration, classes)
    columns.setdefault("label", label)
    return classification(dataset, classes=named, **_origin(declaration), **columns)


def _labels(declaration: Declaration, classes: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """Class names and the label's SQL, from what is declared or from the names that are given."""
    node = declaration.arguments.get("labels", ast.Constant("labels"))
    values = declaration.value("label_values", {})
    if isinstance(node, ast.Call) and is_name(node.func, "name"):
        column = column_sql(node.args[0], declaration.names, "labels")
        names = literal(node.args[1], declaration.names, "labels")
        return tuple(classes or names), f"CASE WHEN {column} >= 0 THEN {column} END"
    column = column_sql(node, declaration.names, "labels")
    if values:
        names, places = tuple(map(str, values.values())), list(values)
        if places == list(range(len(places))):
            return tuple(classes or names), column
        return tuple(classes or names), key_index(
            f"[{', '.join(text_sql(str(value)) for value in places)}]", f"CAST({column} AS VARCHAR)"
        )
    if not classes:
        raise Refused('the names of its classes are in the data only: give classes = ["…", …], in '
                       "the order of the dataset's label numbers")  # fmt: skip
    # Labels are numbers, or the names themselves. Only the data says which.
    listed = f"[{', '.join(map(text_sql, classes))}]"
    by_name = key_index(listed, f"CAST({column} AS VARCHAR)")
    kind = f"typeof({column}) = 'VARCHAR'"
    return tuple(classes), f"CASE WHEN {kind} THEN {by_name} ELSE TRY_CAST({column} AS INTEGER) END"


def _multiple_choice(
    declaration: Declaration, dataset: HubDataset, columns: dict[str, str]
) -> Task:
    if "query" not in columns:
        columns["query"] = (
            declaration.sql("inputs") if "inputs" in declaration.arguments else '"input"'
        )
    if "choices" not in columns and "choices_list" in declaration.arguments:
        columns["choices"] = declaration.sql("choices_list")
    if "choices" not in columns:
        candidates = choice_columns(declaration.arguments.get("choices"), declaration.names)
        columns["choices"] = f"[{', '.join(candidates)}]"
    if "label" not in columns:
        label = declaration.sql("labels") if "labels" in declaration.arguments else '"labels"'
        by_letter = key_index(_LETTERS, f"CAST({label} AS VARCHAR)")
        kind = f"typeof({label}) = 'VARCHAR'"
        number = f"TRY_CAST({label} AS INTEGER)"
        columns["label"] = label if label.isdigit() else (
            f"CASE WHEN {kind} THEN {by_letter} ELSE {number} END"
        )  # fmt: skip
    return commonsense(dataset, **_origin(declaration), **columns)


def _origin(declaration: Declaration) -> dict[str, str]:
    return {
        "about": f"Declared as {declaration.variable} by tasksource.",
        "citation": "Sileo 2024 (tasksource)",
    }
