"""What checks look at: numbers about shards, and the rows that stand out.

All of it streams, so that memory is bounded whatever the number of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from muppet_dag.catalogue import Task
from muppet_dag.catalogue.sql import blank
from muppet_dag.corpus import shards
from muppet_dag.corpus.database import database
from muppet_dag.errors import BadData

#: Largest share of duplicated training rows, and of one class, that raises no warning.
DUPLICATES, ONE_CLASS = 0.05, 0.98
#: How far the number of raw rows may be from the official one.
ROW_COUNT = 0.02
#: Share of the last good version's rows below which a split is refused.
SHRUNK = 0.5
#: What DuckDB may hold at a time, and how many rows are shown.
MEMORY, SHOWN = "256MB", 5


@dataclass(frozen=True)
class Finding:
    """The outcome of one check: numbers, and up to five offending rows. ``blocking`` findings
    would poison training, and ``fix`` says what lets them pass; the others are worth a look."""

    name: str
    passed: bool
    numbers: Mapping[str, Any]
    blocking: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    fix: str = ""


class Check(NamedTuple):
    """What a check looks at, and whether it blocks what lies below."""

    blocking: bool
    about: str


CHECKS = {
    "schema": Check(True, "Every file has the unified columns; no id and no text is null."),
    "labels": Check(True, "Rows of two classes or more: of one alone nothing can be learned."),
    "shrunk": Check(True, "No split lost half the rows or more of the last good version."),
    "balance": Check(False, f"No class has more than {ONE_CLASS:.0%} of the training rows."),
    "row_count": Check(False, f"Raw rows are within {ROW_COUNT:.0%} of the official number."),
    "splits": Check(False, "Every split that the task declares has rows."),
    "duplicates": Check(False, f"At most {DUPLICATES:.0%} of the training rows are repeated."),
    "empty_text": Check(False, "Every row has something to read, and no candidate is empty."),
}


class Refused(BadData):
    """Shards that would poison training: what stood there before stays. ``findings`` says all."""

    def __init__(self, task: Task, findings: list[Finding]) -> None:
        self.findings = findings
        failed = [each for each in findings if not each.passed]
        reasons = "; ".join(f"{each.name}: {each.note or dict(each.numbers)}" for each in failed)
        fix = " ".join(["Nothing was replaced.", *(each.fix for each in failed if each.fix)])
        super().__init__(f"the new shards were refused ({reasons})", task=task.name, fix=fix)


def require(
    task: Task, folder: Path, facts: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> list[Finding]:
    """The blocking checks over a task's shards; raises Refused if one fails.

    ``before`` holds the facts of the last good version, made by the same entry, if there is one.
    """
    findings = _blocking(task, folder, facts, before)
    if not all(each.passed for each in findings):
        raise Refused(task, findings)
    return findings


def examine(
    task: Task,
    folder: Path,
    facts: Mapping[str, Any],
    before: Mapping[str, Any] | None = None,
    *,
    made_up: bool = False,
) -> list[Finding]:
    """Every check of ``CHECKS``, in that order: those that block, then those worth a look.

    Rows that are ``made_up`` (the samples) are not held against official numbers.
    """
    main = _main(shards.splits(folder))
    findings = [
        *_blocking(task, folder, facts, before), _balance(task, folder, main),
        _row_count(task, facts, made_up), _splits(facts), _duplicates(folder, main), _empty(folder),
    ]  # fmt: skip
    assert [each.name for each in findings] == list(CHECKS)
    return findings


def describe(task: Task, folder: Path) -> dict[str, Any]:
    """Facts that people look at: classes, text lengths in characters and a few rows of a split."""
    split = _main(shards.splits(folder))
    return {
        "split": split,
        "classes": _classes(task, folder, split),
        "text_length": _lengths(folder, split),
        "rows": [_shown(row) for row in shards.read(folder, split).slice(0, SHOWN).to_pylist()],
    }


def _blocking(
    task: Task, folder: Path, facts: Mapping[str, Any], before: Mapping[str, Any] | None
) -> list[Finding]:
    labels = _labels(task, folder, _main(shards.splits(folder)))
    return [_schema(folder), labels, _shrunk(facts, before)]


def _main(splits: Collection[str]) -> str:
    """The training split; a held-out task may have none, then its first."""
    return "train" if "train" in splits else min(splits)


def _schema(folder: Path) -> Finding:
    """Every file has the unified schema, and no row lacks its id or text."""
    splits = shards.splits(folder)
    wrong = [split for split in splits if not shards.is_unified(folder, split)]
    # Mapped, as the number of nulls is known without a look at the rows.
    tables = [shards.read(folder, split) for split in splits if split not in wrong]
    nulls = sum(table.column(name).null_count for table in tables for name in ("id", "text"))
    numbers = {"splits": len(splits), "wrong": len(wrong), "null_ids_or_texts": nulls}
    return Finding("schema", not wrong and not nulls, numbers, blocking=True)


def _labels(task: Task, folder: Path, split: str) -> Finding:
    """Two classes or more occur: of one alone nothing can be learned."""
    counts = _classes(task, folder, split)
    if not counts:
        rows = shards.read(folder, split).num_rows
        return Finding("labels", True, {"rows": rows}, blocking=True, note="no classes")
    absent = [name for name, count in counts.items() if not count]
    note = f"classes with no row in {split}: {absent}" if absent else ""
    fix = "Rows of two classes or more are needed: look at label=, classes= and drop=."
    return Finding("labels", len(counts) - len(absent) > 1, counts, True, note=note, fix=fix)


def _balance(task: Task, folder: Path, split: str) -> Finding:
    """No class has nearly all rows. It may be so (fraud, rare diseases), so this is no refusal."""
    counts = _classes(task, folder, split)
    if not counts:
        return Finding("balance", True, {}, note="no classes")
    name = max(counts, key=counts.__getitem__)
    share = counts[name] / sum(counts.values())
    note = "" if share <= ONE_CLASS else (
        f"{share:.1%} of the rows are {name!r}; f1, macro_f1 or matthews says more than accuracy"
    )  # fmt: skip
    return Finding("balance", not note, {"largest_share": share}, note=note)


def _classes(task: Task, folder: Path, split: str) -> dict[str, int]:
    counts: Counter[int | None] = Counter()
    if task.classes:
        for batch in shards.batches(folder, split, ["label"]):
            in_batch = batch.column("label").value_counts().to_pylist()
            counts.update({each["values"]: each["counts"] for each in in_batch})
    return {name: counts[index] for index, name in enumerate(task.classes)}


def _lengths(folder: Path, split: str) -> dict[str, int]:
    rows = shards.numbered(folder, split, "text")  # noqa: F841  (DuckDB finds it by its name)
    with database(MEMORY) as con:
        query = "SELECT length(text) AS length, count(*) AS rows FROM rows GROUP BY ALL ORDER BY 1"
        histogram = con.execute(query).fetchnumpy()
    ends = histogram["rows"].cumsum()
    places = np.array([0, 0.5, 0.95, 1]) * (ends[-1] - 1)
    lengths = histogram["length"][ends.searchsorted(places, side="right")].tolist()
    return dict(zip(("min", "median", "p95", "max"), lengths, strict=True))


def _row_count(task: Task, facts: Mapping[str, Any], made_up: bool) -> Finding:
    """Raw rows against the official count; a carved split is compared as a whole."""
    seen: dict[str, int] = {}
    for role, part in task.dataset.slices.items():
        if role in facts["splits"]:
            seen[part.split] = seen.get(part.split, 0) + facts["splits"][role]["rows_in"]
    if made_up:
        return Finding("row_count", True, seen, note="made-up rows: there is no official number")
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
    was = {split: counts["rows"] for split, counts in (before or {}).get("splits", {}).items()}
    now = {split: facts["splits"].get(split, {}).get("rows", 0) for split in was}
    lost = [split for split, rows in was.items() if now[split] < SHRUNK * rows]
    numbers = {**now, **{f"{split}_before": rows for split, rows in was.items()}}
    note = ", ".join(f"{split} has {now[split]} rows, it had {was[split]}" for split in lost)
    fix = "If it is meant that rows are lost, raise the entry's version."
    return Finding("shrunk", not lost, numbers, blocking=True, note=note, fix=fix)


def _splits(facts: Mapping[str, Any]) -> Finding:
    missing = facts["missing"]
    none = ", ".join(missing)
    note = f"no {none}: the source has none, or no row falls into that part" if missing else ""
    return Finding("splits", not missing, {"missing": len(missing)}, note=note)


def _duplicates(folder: Path, split: str) -> Finding:
    """Rows that a model reads as the same, compared by a hash of 128 bits."""
    rows = shards.numbered(folder, split, "text", "query", "choices")  # noqa: F841  (by its name)
    whole = "concat_ws(chr(0), text, coalesce(query, ''), array_to_string(choices, chr(0)))"
    with database(MEMORY) as con:
        con.execute(
            "CREATE TABLE repeated AS SELECT min(row) AS row, count(*) AS times FROM rows "
            f"GROUP BY md5_number({whole}) HAVING times > 1"
        )
        (extra,) = con.execute("SELECT coalesce(sum(times - 1), 0) FROM repeated").fetchone()
        most = f"SELECT row, times FROM repeated ORDER BY times DESC, row LIMIT {SHOWN}"
        times_by_row = dict(con.execute(most).fetchall())
    shown = [
        {name: row[name] for name in ("id", "text", "query")} | {"times": times}
        for row, times in zip(
            _rows(folder, split, times_by_row), times_by_row.values(), strict=True
        )
    ]
    numbers = {"duplicates": int(extra), "share": int(extra) / shards.read(folder, split).num_rows}
    passed = numbers["share"] <= DUPLICATES
    return Finding("duplicates", passed, numbers, rows=[_shown(row) for row in shown])


def _empty(folder: Path) -> Finding:
    """Rows with nothing to read: neither text nor question (nor, of candidates, an empty one)."""
    query = (
        f"SELECT count(*), min(row, {SHOWN}) FROM rows WHERE (choices IS NULL AND {blank('text')} "
        f"AND {blank('query')}) OR list_bool_or(list_transform(choices, lambda c: {blank('c')}))"
    )
    count, shown = 0, []
    for split in shards.splits(folder):
        rows = shards.numbered(folder, split, "text", "query", "choices")  # noqa: F841  (as above)
        with database(MEMORY) as con:
            in_split, first = con.execute(query).fetchone()
        count += in_split
        shown += _rows(folder, split, first or [])
    rows_shown = [_shown(row) for row in shown[:SHOWN]]
    return Finding("empty_text", not count, {"rows": count}, rows=rows_shown)


def _rows(folder: Path, split: str, numbers: Collection[int]) -> list[dict[str, Any]]:
    """A few rows by number."""
    table = shards.read(folder, split)
    return [table.slice(number, 1).to_pylist()[0] for number in numbers]


def _shown(row: Mapping[str, Any], width: int = 160) -> dict[str, Any]:
    """A row fit for a table: nulls left out, long text cut."""
    short = {key: value for key, value in row.items() if value is not None}
    return {k: v if isinstance(v, int | float) else _cut(str(v), width) for k, v in short.items()}


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
