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
    said = declared[id]
    try:
        dataset, given = _dataset(said, splits), dict(columns or {})
        if said.template == "Classification":
            task = _classification(said, dataset, classes, given)
        elif said.template == "MultipleChoice":
            task = _multiple_choice(said, dataset, given)
        else:
            raise Refused(f"its template {said.template} is none of ours")
    except Refused as error:
        raise BadConfig(f"tasksource = {id!r} cannot be bridged: {error}") from error
    return task


def _dataset(said: Declaration, splits: Mapping[str, str] | None) -> HubDataset:
    for key in ("pre_process", "post_process"):
        code = said.said.get(key)
        if code is not None and _HARMLESS.get(key) != ast.unparse(code):
            raise Refused(f"its rows are prepared by Python code ({key})")
    name = said.value("dataset_name") or parse_name(said.variable)[0]
    name = said.names["CANONICAL"].get(name, name)
    if "/" not in name:
        raise Refused(f"its dataset {name!r} is no repository of the Hub")
    if isinstance(said.said.get("config_name"), ast.ListComp):
        raise Refused("its configs are listed by Python code")
    kwargs = said.value("load_dataset_kwargs", {})
    if other := set(kwargs) - {"revision", "data_dir", "name"}:
        raise Refused(f"it reads loose files ({', '.join(sorted(other))})")
    config = kwargs.get("name") or kwargs.get("data_dir") or said.config or "default"
    revision = kwargs.get("revision", "main")
    return hub(name, config, revision=revision, **(splits or _splits(said)))


def _splits(said: Declaration) -> dict[str, str | None]:
    """Raw splits by role. What has no validation split gets one carved, as in our catalogue."""
    named = said.value("splits")
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
    said: Declaration, dataset: HubDataset, classes: Sequence[str] | None, given: dict[str, str]
) -> Task:
    if "sentence2" not in said.said and "query" not in given:
        # The package then takes a column named sentence2, if the data has one.
        if "sentence1" not in said.said or is_constant(said.said["sentence1"], "sentence1"):
            raise Refused(
                'whether it has a sentence2 is in the data only: give query = "sentence2" or "NULL"'
            )
    elif "query" not in given and not is_constant(said.said["sentence2"], None):
        given["query"] = said.sql("sentence2")
    if "text" not in given:
        given["text"] = said.sql("sentence1") if "sentence1" in said.said else '"sentence1"'
    named, label = _labels(said, classes)
    given.setdefault("label", label)
    return classification(dataset, classes=named, **_words(said), **given)


def _labels(said: Declaration, classes: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """Class names and the label's SQL, from what is declared or from the names that are given."""
    node = said.said.get("labels", ast.Constant("labels"))
    values = said.value("label_values", {})
    if isinstance(node, ast.Call) and is_name(node.func, "name"):
        column = column_sql(node.args[0], said.names, "labels")
        names = literal(node.args[1], said.names, "labels")
        return tuple(classes or names), f"CASE WHEN {column} >= 0 THEN {column} END"
    column = column_sql(node, said.names, "labels")
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


def _multiple_choice(said: Declaration, dataset: HubDataset, given: dict[str, str]) -> Task:
    if "query" not in given:
        given["query"] = said.sql("inputs") if "inputs" in said.said else '"input"'
    if "choices" not in given and "choices_list" in said.said:
        given["choices"] = said.sql("choices_list")
    if "choices" not in given:
        columns = choice_columns(said.said.get("choices"), said.names)
        given["choices"] = f"[{', '.join(columns)}]"
    if "label" not in given:
        label = said.sql("labels") if "labels" in said.said else '"labels"'
        by_letter = key_index(_LETTERS, f"CAST({label} AS VARCHAR)")
        kind = f"typeof({label}) = 'VARCHAR'"
        number = f"TRY_CAST({label} AS INTEGER)"
        given["label"] = label if label.isdigit() else (
            f"CASE WHEN {kind} THEN {by_letter} ELSE {number} END"
        )  # fmt: skip
    return commonsense(dataset, **_words(said), **given)


def _words(said: Declaration) -> dict[str, str]:
    return {
        "about": f"Declared as {said.variable} by tasksource.",
        "citation": "Sileo 2024 (tasksource)",
    }
