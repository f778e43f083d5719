"""What checks look at: numbers about shards, and the rows that stand out. DuckDB over Arrow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from muppet_dag.catalogue import Task
from muppet_dag.corpus import shards
from muppet_dag.corpus.schema import SCHEMA
from muppet_dag.errors import BadData

#: Largest share of duplicated training rows, and of one class, that raises no warning.
DUPLICATES, ONE_CLASS = 0.05, 0.98
#: How far the number of raw rows may be from the official one.
ROW_COUNT = 0.02
#: Share of the last good version's rows below which a split is refused.
SHRUNK = 0.5


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: numbers, and up to five offending rows. ``blocking`` findings
    would poison training; the others are worth a look."""

    name: str
    passed: bool
    numbers: Mapping[str, Any]
    blocking: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""


#: Name of each check and whether it blocks what lies below.
CHECKS: dict[str, bool] = {
    "schema": True,
    "labels": True,
    "shrunk": True,
    "row_count": False,
    "splits": False,
    "duplicates": False,
    "empty_text": False,
}


class Refused(BadData):
    """Shards that would poison training: what stood there before stays. ``findings`` says all."""

    def __init__(self, task: Task, findings: list[Finding]) -> None:
        self.findings = findings
        bad = [each for each in findings if not each.passed]
        said = "; ".join(f"{each.name}: {each.note or dict(each.numbers)}" for each in bad)
        fix = "Nothing was replaced. If the change is meant, raise the entry's version."
        super().__init__(f"the new shards were refused ({said})", task=task.name, fix=fix)


def require(
    task: Task, folder: Path, facts: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> list[Finding]:
    """The blocking checks over a task's shards; raises Refused if one fails.

    ``before`` holds the facts of the last good version, made by the same entry, if there is one.
    """
    findings = _blocking(task, _tables(folder), facts, before)
    if not all(each.passed for each in findings):
        raise Refused(task, findings)
    return findings


def examine(
    task: Task, folder: Path, facts: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> list[Finding]:
    """Every check of ``CHECKS``, in that order: those that block, then those worth a look."""
    tables = _tables(folder)
    found = [
        *_blocking(task, tables, facts, before), _row_count(task, facts), _splits(facts),
        _duplicates(tables[_main(tables)]), _empty(tables),
    ]  # fmt: skip
    assert [each.name for each in found] == list(CHECKS)
    return found


def _blocking(
    task: Task,
    tables: Mapping[str, pa.Table],
    facts: Mapping[str, Any],
    before: Mapping[str, Any] | None,
) -> list[Finding]:
    return [_schema(tables), _labels(task, tables[_main(tables)]), _shrunk(facts, before)]


def _tables(folder: Path) -> dict[str, pa.Table]:
    return {split: shards.read(folder, split) for split in shards.splits(folder)}


def describe(task: Task, folder: Path) -> dict[str, Any]:
    """Facts that people look at: classes, text lengths in characters, a few rows."""
    import duckdb

    train = shards.read(folder, _main(shards.splits(folder)))
    con = duckdb.connect()  # the default one may be in the middle of a user's own query
    lengths = con.sql("SELECT quantile_cont(length(text), [0, .5, .95, 1]) FROM train")
    lengths = lengths.fetchall()[0][0]
    return {
        "classes": _classes(task, train),
        "text_length": dict(zip(("min", "median", "p95", "max"), map(int, lengths), strict=True)),
        "rows": [_shown(row) for row in train.slice(0, 5).to_pylist()],
    }


def _main(splits: Collection[str]) -> str:
    """The training split; a held-out task may have none, then its first."""
    return "train" if "train" in splits else min(splits)


def _schema(tables: Mapping[str, pa.Table]) -> Finding:
    wrong = [split for split, table in tables.items() if not table.schema.equals(SCHEMA)]
    ids = sum(t.column(name).null_count for t in tables.values() for name in ("id", "text"))
    numbers = {"splits": len(tables), "wrong": len(wrong), "null_ids_or_texts": ids}
    return Finding("schema", not wrong and not ids, numbers, blocking=True)


def _labels(task: Task, train: pa.Table) -> Finding:
    """Every class occurs and none is all there is."""
    if task.family != "classification" or task.regression:
        return Finding("labels", True, {"rows": train.num_rows}, blocking=True, note="no classes")
    counts = _classes(task, train)
    share = max(counts.values()) / train.num_rows
    absent = [name for name, count in counts.items() if not count]
    note = f"classes with no training row: {absent}" if absent else ""
    passed = len(absent) < len(counts) - 1 and share <= ONE_CLASS
    return Finding("labels", passed, {**counts, "largest_share": share}, blocking=True, note=note)


def _classes(task: Task, train: pa.Table) -> dict[str, int]:
    if not task.classes:
        return {}
    counted = {c["values"]: c["counts"] for c in train.column("label").value_counts().to_pylist()}
    return {name: counted.get(index, 0) for index, name in enumerate(task.classes)}


def _row_count(task: Task, facts: Mapping[str, Any]) -> Finding:
    """Raw rows against the official count; a carved split is compared as a whole."""
    seen: dict[str, int] = {}
    for role, part in task.dataset.slices.items():
        if role in facts["splits"]:
            seen[part.split] = seen.get(part.split, 0) + facts["splits"][role]["rows_in"]
    numbers: dict[str, int] = {}
    for split, rows in seen.items():
        numbers[split] = rows
        if split in task.rows:
            numbers[f"{split}_official"] = task.rows[split]
    known = {split: rows for split, rows in task.rows.items() if split in seen}
    off = [s for s, rows in known.items() if abs(seen[s] - rows) > ROW_COUNT * rows]
    note = f"differs by more than {ROW_COUNT:.0%}: {', '.join(off)}" if off else ""
    return Finding("row_count", not off, numbers, note=note)


def _shrunk(facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> Finding:
    """Rows of each split against the last good version."""
    was = {split: said["rows"] for split, said in (before or {}).get("splits", {}).items()}
    now = {split: facts["splits"].get(split, {}).get("rows", 0) for split in was}
    lost = [split for split, rows in was.items() if now[split] < SHRUNK * rows]
    numbers = {**now, **{f"{split}_before": rows for split, rows in was.items()}}
    note = ", ".join(f"{split} has {now[split]} rows, it had {was[split]}" for split in lost)
    return Finding("shrunk", not lost, numbers, blocking=True, note=note)


def _splits(facts: Mapping[str, Any]) -> Finding:
    missing = facts["missing"]
    note = f"the source has no {', '.join(missing)}" if missing else ""
    return Finding("splits", not missing, {"missing": len(missing)}, note=note)


def _duplicates(train: pa.Table) -> Finding:
    import duckdb

    con = duckdb.connect()
    rows = con.sql(
        "SELECT first(id) AS id, text, query, count(*) AS times FROM train "
        "GROUP BY text, query, choices HAVING times > 1 ORDER BY times DESC, text, query"
    ).to_arrow_table()
    extra = sum(rows.column("times").to_pylist()) - rows.num_rows
    numbers = {"duplicates": extra, "share": extra / train.num_rows}
    shown = [_shown(row) for row in rows.slice(0, 5).to_pylist()]
    return Finding("duplicates", numbers["share"] <= DUPLICATES, numbers, rows=shown)


def _empty(tables: Mapping[str, pa.Table]) -> Finding:
    """Rows with nothing to read: neither text nor question (nor, of candidates, an empty one)."""
    import duckdb

    empty: list[dict[str, Any]] = []
    for rows in tables.values():  # noqa: B007  (DuckDB finds it by its name)
        found = duckdb.connect().sql(
            "SELECT * FROM rows WHERE (trim(text) = '' AND coalesce(trim(query), '') = '' AND "
            "choices IS NULL) OR list_contains(list_transform(choices, lambda c: trim(c)), '')"
        )
        empty += found.to_arrow_table().to_pylist()
    shown = [_shown(row) for row in empty[:5]]
    return Finding("empty_text", not empty, {"rows": len(empty)}, rows=shown)


def _shown(row: Mapping[str, Any], width: int = 160) -> dict[str, Any]:
    """A row fit for a table: nulls left out, long text cut."""
    short = {key: value for key, value in row.items() if value is not None}
    return {k: v if isinstance(v, int | float) else _cut(str(v), width) for k, v in short.items()}


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
