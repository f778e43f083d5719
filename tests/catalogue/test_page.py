"""The catalogue's page is made from the entries, and is current."""

from __future__ import annotations

import re
from pathlib import Path

from muppet_dag.catalogue import TASKS
from muppet_dag.catalogue.page import COLUMNS, page

FILE = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_page_is_current() -> None:
    again = "run `python -m muppet_dag.catalogue.page > docs/tasks.md`"
    assert FILE.read_text() == page(), again


def test_every_task_has_one_whole_line() -> None:
    lines = [line for line in page().splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", line)[0] for line in lines) == sorted(TASKS)
    assert all(len(re.split(r"(?<!\\)\|", line)) == len(COLUMNS) + 2 for line in lines)


def test_held_out_tasks_have_a_table_of_their_own() -> None:
    mixed, held_out = page().split("## For evaluation only")
    for name, task in TASKS.items():
        assert (f"| `{name}` |" in held_out) == task.held_out
        assert (f"| `{name}` |" in mixed) != task.held_out


def test_carved_splits_are_shown() -> None:
    (line,) = (line for line in page().splitlines() if line.startswith("| `imdb`"))
    assert "train = `train[5%:]`, validation = `train[:5%]`, test" in line
