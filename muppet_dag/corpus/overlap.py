"""Overlap: which training rows appear in a validation or test split, of the same or another task.

Of each training row and evaluation split the strongest of four kinds is reported:

- ``row``: all that a model reads is equal: text, query and candidates. Case, white space beside a
  sign and the style of quotes and dashes do not count; every letter, digit and other sign does, so
  ``3 + 4`` is not ``3 - 4``, nor a sentence the same one with other punctuation or another word
  marked (WiC, WSC).
- ``near``: nearly equal. At least 0.7 of the three-word shingles are shared, punctuation left out,
  where there is a query or candidates, 0.7 of their words, and 0.7 of the numbers and symbols:
  with others, the same wording is another problem. In scripts without blanks a sign is a word.
- ``query``: the same question or second sentence beside another text (SQuAD and QNLI), at least
  four words, also where one task keeps its question as the text (TREC). A question that any split
  asks of more than three texts ("which is true?") is no overlap.
- ``text``: the same text of at least 13 words under another query (a shared passage or premise).

The last two are of words and symbols: punctuation does not count.

Labels and answers are not compared. Evaluation rows without a label are not in the shards, so a
test split with hidden labels is not seen.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from muppet_dag.corpus import shards
from muppet_dag.corpus.exact import COMMON_QUERY, LONG_TEXT, SHORTEST_QUERY, Exact
from muppet_dag.corpus.fingerprint import Rows
from muppet_dag.corpus.near import FEWEST_WORDS, SIMILARITY, Near
from muppet_dag.errors import MuppetError

if TYPE_CHECKING:
    import duckdb

#: Raise when the same shards would give another report.
VERSION = "2"
FILE = "overlap.parquet"
TRAIN = "train"
#: Bytes of text that are handled at a time.
CHUNK = 8 << 20
#: From the strongest to the weakest; of a pair the strongest counts.
KINDS = ("row", "near", "query", "text")
#: The kinds that a mixture leaves out: the row itself has been seen. A shared passage or question
#: alone gives no answer away, and leaving those out would empty tasks that share their source.
LEAKS = ("row", "near")

_SCHEMA = pa.schema(
    [
        pa.field("train_task", pa.string()),
        pa.field("train_row", pa.int32()),
        pa.field("kind", pa.string()),
        pa.field("eval_task", pa.string()),
        pa.field("eval_split", pa.string()),
        pa.field("eval_row", pa.int32()),
        pa.field("similarity", pa.float32()),
    ]
)


@dataclass(frozen=True)
class _Part:
    """One split of one task."""

    task: str
    split: str
    folder: Path

    def rows(self) -> Iterator[tuple[int, Rows]]:
        """Normalised rows, a few megabytes at a time, with the number of the first."""
        first = 0
        for batch in shards.batches(self.folder, self.split):
            for at, chunk in shards.chunks(batch, CHUNK):
                yield first + at, Rows.of(chunk)
            first += batch.num_rows

    def take(self, rows: np.ndarray) -> Rows:
        """Rows by number, ascending. Only the batches that hold them are touched."""
        taken, first = [], 0
        for batch in shards.read(self.folder, self.split).to_batches():
            low, high = np.searchsorted(rows, [first, first + batch.num_rows])
            if high > low:
                taken.append(batch.take(pa.array(rows[low:high] - first)))
            first += batch.num_rows
        return Rows.of(pa.concat_batches(taken))


def find(folders: Mapping[str, Path], out: Path, *, memory_mb: int = 1500) -> dict[str, Any]:
    """Write ``overlap.parquet`` into ``out``; returns the facts for the manifest.

    ``folders`` maps tasks to their shards. The file has a row per training row and evaluation
    split that overlap, with one evaluation row as the example and the similarity (Jaccard of
    shingles for ``near``, else 1). ``memory_mb`` is DuckDB's share; beyond it, it spills to disk.
    """
    import duckdb

    parts = [
        _Part(task, split, Path(folders[task]))
        for task in sorted(folders)
        for split in shards.splits(folders[task])
    ]
    spill = Path(out) / "spill"
    spill.mkdir()
    with duckdb.connect(str(spill / "keys.duckdb")) as con:
        con.execute(f"SET memory_limit = '{memory_mb}MB'")
        con.execute("SET enable_progress_bar = false")
        rows = _compare(con, parts)
        _write(con, parts, Path(out) / FILE)
        facts = {**_facts(con, parts), **rows}
    shutil.rmtree(spill)
    return facts


def leaked(folder: Path, task: str) -> np.ndarray:
    """Numbers of a task's training rows that a mixture leaves out, ascending: those with an
    overlap of the kinds ``LEAKS`` in any evaluation split of any task."""
    chosen = [("train_task", "=", task), ("kind", "in", LEAKS)]
    table = pq.read_table(Path(folder) / FILE, columns=["train_row"], filters=chosen)
    return np.unique(table.column("train_row").to_numpy())


def examples(folder: Path, folders: Mapping[str, Path], most: int = 8) -> list[dict[str, Any]]:
    """A few pairs with their texts, one for each pair of tasks and kind, strong kinds first."""
    import duckdb

    overlap = pq.read_table(Path(folder) / FILE)  # noqa: F841  (DuckDB finds it by its name)
    query = (
        f"SELECT * FROM overlap QUALIFY row_number() OVER (PARTITION BY train_task, kind, eval_task"
        f" ORDER BY train_row) = 1 ORDER BY list_position({list(KINDS)}, kind), "
        f"train_task = eval_task, similarity, train_task, eval_task LIMIT {most}"
    )
    with duckdb.connect() as con:
        chosen = con.sql(query).to_arrow_table()
    return [
        {
            "kind": row["kind"],
            "similarity": round(row["similarity"], 2),
            "training row": f"{row['train_task']} {row['train_row']}",
            "reads": _read(folders[row["train_task"]], TRAIN, row["train_row"]),
            "evaluation row": f"{row['eval_task']} {row['eval_split']} {row['eval_row']}",
            "and reads": _read(folders[row["eval_task"]], row["eval_split"], row["eval_row"]),
        }
        for row in chosen.to_pylist()
    ]


def _compare(con: duckdb.DuckDBPyConnection, parts: list[_Part]) -> dict[str, int]:
    """Fill the tables ``exact`` and ``near``; returns how many rows were compared."""
    sizes = [sum(f.stat().st_size for f in shards.files(p.folder, p.split)) for p in parts]
    evaluation = [i for i, part in enumerate(parts) if part.split != TRAIN]
    exact, near = Exact(con), Near(con, sum(sizes[i] for i in evaluation))
    counted = {"evaluation_rows": 0, "train_rows": 0}
    # The evaluation side first: training rows are looked up in it.
    for index in [*evaluation, *(i for i, part in enumerate(parts) if part.split == TRAIN)]:
        side = "train" if parts[index].split == TRAIN else "evaluation"
        for first, rows in parts[index].rows():
            exact.add(side, rows, index, first)
            near.add(side, rows, index, first)
            counted[f"{side}_rows"] += len(rows.whole)
    exact.find()
    near.find(lambda part, rows: parts[part].take(rows))
    return counted


def _write(con: duckdb.DuckDBPyConnection, parts: list[_Part], path: Path) -> None:
    """The strongest kind of each training row and evaluation split, in order, to parquet."""
    names = pa.table(  # noqa: F841  (DuckDB finds it by its name)
        {
            "part": pa.array(range(len(parts)), pa.int16()),
            "task": pa.array([part.task for part in parts], pa.string()),
            "split": pa.array([part.split for part in parts], pa.string()),
        }
    )
    con.execute(
        f"""CREATE TABLE overlap AS
        WITH matches AS (SELECT *, 1.0 AS similarity FROM exact
                       UNION ALL BY NAME SELECT *, 'near' AS kind FROM near),
        best AS (SELECT * FROM matches QUALIFY row_number() OVER (
            PARTITION BY train_part, train_row, part
            ORDER BY list_position({list(KINDS)}, kind), similarity DESC, row) = 1)
        SELECT t.task AS train_task, train_row, kind, e.task AS eval_task, e.split AS eval_split,
               row AS eval_row, similarity::FLOAT AS similarity
        FROM best JOIN names t ON t.part = train_part JOIN names e ON e.part = best.part"""
    )
    ordered = con.sql("FROM overlap ORDER BY train_task, train_row, eval_task, eval_split")
    reader = ordered.to_arrow_reader(shards.BATCH_ROWS)
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for batch in shards.rebatch(reader):
            writer.write_table(pa.Table.from_batches([batch]).cast(_SCHEMA))


def _facts(con: duckdb.DuckDBPyConnection, parts: list[_Part]) -> dict[str, Any]:
    """The matrix (training rows by training task, evaluation task and kind), and for each task how
    many training rows overlap at all, and by the kinds that a mixture leaves out."""
    counts = ", ".join(
        f"count(DISTINCT train_row) FILTER (kind = '{kind}') AS {kind}" for kind in KINDS
    )
    matrix = con.sql(
        f"SELECT train_task, eval_task, {counts} FROM overlap GROUP BY ALL "
        f"ORDER BY {' + '.join(KINDS)} DESC, train_task, eval_task"
    ).to_arrow_table()
    affected = con.sql(
        "SELECT train_task, count(DISTINCT train_row) AS overlapping, count(DISTINCT train_row) "
        f"FILTER (kind IN {LEAKS}) AS leaked FROM overlap GROUP BY ALL ORDER BY train_task"
    ).to_arrow_table()
    return {
        "tasks": len({part.task for part in parts}),
        "overlaps": con.execute("SELECT count(*) FROM overlap").fetchone()[0],
        "matrix": matrix.to_pylist(),
        "affected": {row.pop("train_task"): row for row in affected.to_pylist()},
        "parameters": {"similarity": SIMILARITY, "fewest_words_near": FEWEST_WORDS,
                       "long_text": LONG_TEXT, "shortest_query": SHORTEST_QUERY,
                       "common_query": COMMON_QUERY},
    }  # fmt: skip


def _read(folder: Path, split: str, row: int, width: int = 300) -> str:
    """What a model reads of a row, cut to ``width`` characters."""
    (fields,) = shards.read(folder, split).slice(row, 1).to_pylist()
    text = " / ".join(filter(None, [fields["text"], fields["query"], *(fields["choices"] or [])]))
    return text if len(text) <= width else f"{text[: width // 2]} … {text[-width // 2 :]}"


def require_same(overlap: Mapping[str, str], shards_in_use: Mapping[str, str]) -> None:
    """MuppetError unless the overlap report read exactly the shards that are in use.

    Both map ``shards/<task>`` to versions: the report's inputs and those of the tokens.
    """
    for name, version in sorted(shards_in_use.items()):
        if overlap.get(name) != version:
            seen = "other rows" if name in overlap else "no rows"
            raise MuppetError(
                f"the overlap report has seen {seen} of {name} than its tokens were made from; "
                "materialize overlap, and the tokens if they are older, or set "
                "mixture.decontaminate = false in the recipe"
            )
