"""Write the small data set: every task of the catalogue in its raw Hub schema and layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from muppet_dag import catalogue
from muppet_dag.errors import BadConfig
from muppet_dag.samples import classification, commonsense, mrc, summarization
from muppet_dag.samples.schema import Sample, arrow_schema
from muppet_dag.samples.writer import Writer
from muppet_dag.store import digest

SAMPLES: dict[str, Sample] = {
    **classification.SAMPLES,
    **commonsense.SAMPLES,
    **mrc.SAMPLES,
    **summarization.SAMPLES,
}
FILE = "{split}-00000-of-00001.parquet"

#: Columns that name a row, and so differ between rows of the same text.
_KEYS = frozenset(("id", "idx", "query_id", "question_id", "qid"))


def make(
    directory: Path,
    *,
    train_rows: int = 240,
    evaluation_rows: int = 64,
    seed: int = 20210111,
    tasks: Sequence[str] | None = None,
) -> Path:
    """Write a sample of each task (all shipped ones, or those named) below ``directory``.

    The layout is ``namespace/name/config/split-00000-of-00001.parquet``. The same arguments give
    the same bytes. Returns ``directory``. Raises BadConfig for a task that has no samples.
    """
    for name in SAMPLES if tasks is None else tasks:
        dataset = catalogue.get(name).dataset
        if name not in SAMPLES:
            raise BadConfig(f"task {name!r} is your own, so there are no samples of it")
        folder = Path(directory) / dataset.repository / dataset.config
        folder.mkdir(parents=True, exist_ok=True)
        for split in sorted({part.split for part in dataset.slices.values()}):
            count = train_rows if split.startswith("train") else evaluation_rows
            rows = table(_first(name), split, count, seed)
            pq.write_table(rows, folder / FILE.format(split=split))
    return Path(directory)


def _first(task: str) -> str:
    """The first task that reads the same files: tasks of one data set share its rows."""
    mine = catalogue.get(task).dataset
    where = (mine.repository, mine.config)
    return next(
        name
        for name, other in catalogue.TASKS.items()
        if name in SAMPLES and (other.dataset.repository, other.dataset.config) == where
    )


def table(task: str, split: str, count: int, seed: int) -> pa.Table:
    """``count`` raw rows of one split of a task."""
    columns, maker = SAMPLES[task]
    writer = Writer(seed, task, split)
    rows = [maker(writer, number) for number in range(count)]
    if split.startswith("train") and count > 100:
        # Real training sets repeat a few texts, under another id.
        rows[-1] = rows[-1 - count // 2] | {k: rows[-1][k] for k in _KEYS & rows[-1].keys()}
    return pa.Table.from_pylist(rows, schema=arrow_schema(columns))


def version() -> str:
    """Hash of what decides the samples: this package's code and the catalogue's entries."""
    code = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    entries = {n: task.fingerprint for n, task in catalogue.TASKS.items() if n in SAMPLES}
    return digest([code, entries])
