"""The catalogue as a page: ``python -m muppet_dag.catalogue.page > docs/tasks.md``."""

from __future__ import annotations

from collections.abc import Iterator

from muppet_dag.catalogue import FAMILIES, TASKS, Slice, Task

COLUMNS = (
    "task", "rows in train", "classes", "metrics", "licence", "source", "splits", "citation",
    "notes",
)  # fmt: skip
TITLES = {
    "classification": "Classification",
    "commonsense": "Commonsense: multiple choice",
    "mrc": "Reading comprehension: spans",
    "summarization": "Summarization",
}
HEAD = """# The tasks

<!-- Made by `python -m muppet_dag.catalogue.page > docs/tasks.md`; edit the entries instead. -->

{count} tasks in four families; {held_out} of them are for evaluation only: they can be
fine-tuned and scored (`finetune.tasks` of a recipe), but no mixture for pre-finetuning may hold
them.

*Rows in train* is the official count of the raw training split, before rows are dropped or carved
off. *Source* is repository, config and revision on the Hugging Face Hub. A split such as
`train[:5%]` is carved from the raw split by a seeded hash of each row's text, so that equal texts
stay on one side; test splits whose labels are hidden are not used. *Licence* is what the Hub's card
says, which may be nothing.
"""


def page() -> str:
    """Markdown: a table for each family, and one for the tasks that are held out."""
    held_out = [task for task in TASKS.values() if task.held_out]
    parts = [HEAD.format(count=len(TASKS), held_out=len(held_out))]
    for family in FAMILIES:
        mixed = [task for task in TASKS.values() if task.family == family and not task.held_out]
        rows = sum(_train_rows(task) for task in mixed)
        parts.append(f"## {TITLES[family]}\n\n{len(mixed)} tasks, {rows:,} rows in train.\n")
        parts.append(_table(mixed))
    parts += [f"## For evaluation only\n\n{len(held_out)} tasks.\n", _table(held_out)]
    return "\n".join(parts)


def _table(tasks: list[Task]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS), *(tuple(_cells(task)) for task in tasks)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(task: Task) -> Iterator[str]:
    dataset = task.dataset
    yield f"`{task.name}`"
    yield f"{_train_rows(task):,}"
    yield _classes(task)
    yield ", ".join(task.metrics)
    yield task.licence
    yield (
        f"[{dataset.repository}](https://huggingface.co/datasets/{dataset.repository}) "
        f"{dataset.config}@{dataset.revision}"
    )
    yield ", ".join(_split(role, part) for role, part in dataset.slices.items())
    yield task.citation
    yield task.about.replace("|", "\\|")


def _train_rows(task: Task) -> int:
    return task.rows[task.dataset.slices["train"].split]


def _classes(task: Task) -> str:
    if task.score_range:
        return "a number from {:g} to {:g}".format(*task.score_range)
    if not task.classes:
        return {"commonsense": "choices", "mrc": "spans", "summarization": "text"}[task.family]
    few = ", ".join(task.classes) if len(task.classes) <= 6 else "see the entry"
    return f"{len(task.classes)}: {few}"


def _split(role: str, part: Slice) -> str:
    """``validation = train[:5%]``; the role alone where the raw split is whole and named alike."""
    if (part.low, part.high) == (0, 100):
        return role if role == part.split else f"{role} = {part.split}"
    low = f"{part.low}%" if part.low else ""
    high = f"{part.high}%" if part.high < 100 else ""
    return f"{role} = `{part.split}[{low}:{high}]`"


if __name__ == "__main__":
    print(page(), end="")
