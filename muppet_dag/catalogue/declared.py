"""What the ``tasksource`` package declares, read from its module without running it."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from muppet_dag.catalogue.task import CONVERTED
from muppet_dag.errors import BadConfig

#: Arguments by position, as the package's templates take them.
_TEMPLATES = {
    "Classification": ("sentence1", "sentence2", "labels"),
    "MultipleChoice": ("inputs", "choices", "labels", "choices_list"),
}


class Refused(Exception):
    """Why a declaration is not bridged."""


@dataclass(frozen=True)
class Declaration:
    """One call of a template in the package's module, and the names that the module knows."""

    variable: str
    template: str
    arguments: Mapping[str, ast.expr]
    config: str | None
    names: Mapping[str, Any]

    def value(self, key: str, default: Any = None) -> Any:
        """A literal argument. Refused where it is code."""
        return literal(self.arguments[key], self.names, key) if key in self.arguments else default

    def sql(self, key: str) -> str:
        """An argument that stands for a raw column, as SQL. Refused where it is code."""
        return column_sql(self.arguments[key], self.names, key)


def declarations() -> dict[str, Declaration]:
    """Every task of the installed package by id, in order. BadConfig if it is not installed."""
    package = importlib.util.find_spec("tasksource")  # finds it without running it
    if package is None or not package.submodule_search_locations:
        raise BadConfig("tasksource is not installed; pip install muppet-dag[tasksource]")
    return _declarations(Path(next(iter(package.submodule_search_locations))))


@lru_cache(maxsize=4)
def _declarations(package: Path) -> dict[str, Declaration]:
    try:
        body = ast.parse((package / "tasks.py").read_text(encoding="utf-8")).body
        names = _constants(body)
        for file, name in (("canonical", "CANONICAL"), ("source_revisions", "SOURCE_REVISIONS")):
            tree = ast.parse((package / "metadata" / f"{file}.py").read_text(encoding="utf-8"))
            names[name] = _constants(tree.body).get(name, {})
    except (OSError, SyntaxError) as error:
        raise BadConfig(f"tasksource: {package} is not laid out as expected ({error})") from error
    out: dict[str, Declaration] = {}
    for node in body:
        call = node.value if isinstance(node, ast.Assign) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    out |= _declared(target.id, call, names)
    return out


def _declared(variable: str, call: ast.Call, names: Mapping[str, Any]) -> dict[str, Declaration]:
    """The tasks of one call: as many as it lists configs."""
    template = call.func.id
    arguments = dict(zip(_TEMPLATES.get(template, ()), call.args, strict=False))
    arguments |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if template == "dict" or (
        template not in _TEMPLATES and not {"dataset_name", "labels"} & {*arguments}
    ):
        return {}  # a constant or a helper, no task
    if any(keyword.arg is None for keyword in call.keywords):
        template = f"{template}(**…)"  # more arguments stand elsewhere
    dataset, config, task = parse_name(variable)
    try:
        whole = Declaration(variable, template, arguments, None, names)
        dataset = whole.value("dataset_name", dataset)
        configs = whole.value("config_name", config)
        fixed = whole.value("task_id")
    except Refused:
        configs, fixed = config, None
    out = {}
    for each in configs if isinstance(configs, list) else [configs]:
        parts = [dataset.rsplit("/", 1)[-1], each, task]
        id = fixed.replace("{config_name}", each or "") if fixed else "/".join(filter(None, parts))
        out[id] = Declaration(variable, template, arguments, each, names)
    return out


def parse_name(variable: str) -> tuple[str, str | None, str | None]:
    """``dataset___config__task``, as the package reads it."""
    dataset, _, rest = variable.partition("___")
    if rest:
        config, _, task = rest.partition("__")
        return dataset, config, task or None
    dataset, _, task = variable.partition("__")
    return dataset, None, task or None


def choice_columns(node: ast.expr | None, names: Mapping[str, Any]) -> list[str]:
    """The candidates' columns: a list of names, ``regen("ending[0-3]")``, or a sum of those."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return choice_columns(node.left, names) + choice_columns(node.right, names)
    if isinstance(node, ast.Call) and is_name(node.func, "regen"):
        pattern = literal(node.args[0], names, "choices")
        if match := re.fullmatch(r"(\w*)\[(\w)-(\w)\]", pattern):
            ends = range(ord(match[2]), ord(match[3]) + 1)
            return [_identifier(f"{match[1]}{chr(code)}") for code in ends]
        raise Refused(f"its choices are the columns of a pattern ({pattern})")
    if isinstance(node, ast.List):
        return [column_sql(each, names, "choices") for each in node.elts]
    raise Refused("its choices are Python code")


def column_sql(node: ast.expr, names: Mapping[str, Any], key: str) -> str:
    """SQL of a column's name, ``cat([…])``, ``get.a.b`` or ``constant(0)``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _identifier(node.value)
    if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("get."):
        return ".".join(map(_identifier, ast.unparse(node).split(".")[1:]))
    if isinstance(node, ast.Call) and is_name(node.func, "constant"):
        value = literal(node.args[0], names, key)
        return text_sql(value) if isinstance(value, str) else str(int(value))
    if isinstance(node, ast.Call) and is_name(node.func, "cat"):
        arguments = dict(zip(("fields", "separator"), node.args, strict=False))
        arguments |= {keyword.arg: keyword.value for keyword in node.keywords}
        fields = literal(arguments["fields"], names, key)
        separator = arguments.get("separator")
        between = literal(separator, names, key) if separator else " "
        return f"trim(concat_ws({text_sql(between)}, {', '.join(map(_identifier, fields))}))"
    raise Refused(f"its {key} is Python code ({ast.unparse(node)[:60]})")


def _constants(body: Sequence[ast.stmt]) -> dict[str, Any]:
    """The module's names that are literals."""
    known: dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                known[node.targets[0].id] = literal(node.value, known, "")
            except Refused:
                continue
    return {"PARQUET": CONVERTED} | known


def literal(node: ast.expr, names: Mapping[str, Any], key: str) -> Any:
    """The value of a literal, of a name for one, or of ``dict(…)`` over them."""
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.Dict) and None not in node.keys:
        pairs = zip(node.keys, node.values, strict=True)
        return {literal(k, names, key): literal(v, names, key) for k, v in pairs}
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        table, place = names.get(node.value.id, {}), literal(node.slice, names, key)
        if isinstance(table, dict) and place in table:
            return table[place]
    if isinstance(node, ast.Call) and is_name(node.func, "dict"):
        if not node.args:
            return {k.arg: literal(k.value, names, key) for k in node.keywords}
        inner = node.args[0]
        if isinstance(inner, ast.Call) and is_name(inner.func, "enumerate"):
            return dict(enumerate(literal(inner.args[0], names, key)))
    try:
        return ast.literal_eval(node)
    except ValueError as error:
        raise Refused(f"its {key} is Python code ({ast.unparse(node)[:60]})") from error


def is_constant(node: ast.expr, value: Any) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


def is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def text_sql(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
