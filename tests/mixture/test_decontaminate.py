"""A recipe's mixture: rows that the overlap report flags stay out; budgets, caps and weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workbench import LENGTHS

from muppet_dag import catalogue, pipeline, samples
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.recipes import MixtureSection, ModelSection, Recipe, TasksSection, load
from muppet_dag.store import Store, lineage

TASKS = ("rte", "squad")
RECIPE = Recipe(
    name="clean",
    model=ModelSection(base="tiny-bert", **LENGTHS),
    tasks=TasksSection(families=(), include=TASKS),
    mixture=MixtureSection(slot_tokens=1024, slots_per_step=4, epochs=1),
)
DIRTY = replace(RECIPE, name="dirty", mixture=replace(RECIPE.mixture, decontaminate=False))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Samples of two tasks, down to tokens, with the longest SQuAD passages in both splits."""
    raw = samples.make(tmp_path / "raw", train_rows=96, evaluation_rows=24, tasks=TASKS)
    plant(raw)
    store = Store(tmp_path / "store")
    pipeline.make_base(store, "tiny-bert")
    refresh(store, raw)
    return store


def plant(raw: Path, rows: int = 4) -> None:
    """Copy the training rows with the longest passages into the validation split, in capitals."""
    files = {p.name.split("-")[0]: p for p in (raw / "rajpurkar/squad").rglob("*.parquet")}
    train, validation = (pq.read_table(files[split]) for split in ("train", "validation"))
    lengths = [len(text) for text in train["context"].to_pylist()]
    longest = sorted(range(len(lengths)), key=lambda i: -lengths[i])[:rows]
    pq.write_table(pa.concat_tables([validation, train.take(longest)]), files["validation"])


def refresh(store: Store, raw: Path, *names: str) -> None:
    for name in names or TASKS:
        pipeline.make_shards(store, DirectorySource(raw), catalogue.get(name))
        pipeline.make_tokens(store, RECIPE, "tiny-bert", catalogue.get(name))


def rows(store: Store, mixture, task: str) -> set[int]:
    """Shard rows of a task that a mixture holds."""
    tokens = store.open(name := pipeline.tokens_name(RECIPE, "tiny-bert", task),
                        mixture.manifest.inputs[name])  # fmt: skip
    example = pa.ipc.open_file(tokens.path / "train.arrow").read_all()["example"].to_numpy()
    table = pa.ipc.open_file(mixture.path / "mixture.arrow").read_all().to_pylist()
    return {int(example[row["row"]]) for row in table if row["task"] == task}


def test_flagged_rows_lose_all_their_windows_and_the_manifest_counts_them(store: Store) -> None:
    from muppet_dag.corpus import overlap

    report = pipeline.make_overlap(store)
    leaked = set(overlap.leaked(report.path, "squad").tolist())
    assert len(leaked) >= 4
    clean = pipeline.make_mixture(store, RECIPE, "tiny-bert")
    dirty = pipeline.make_mixture(store, DIRTY, "tiny-bert")
    assert rows(store, dirty, "squad") - rows(store, clean, "squad") == leaked
    assert not rows(store, clean, "squad") & leaked
    assert clean.facts["decontaminated"]["squad"] == len(leaked)
    assert dirty.facts["decontaminated"] == {}
    assert "overlap/all" not in dirty.manifest.inputs
    assert ("overlap/all", report.version) in {each[1:3] for each in lineage(clean.path)}


def leak(raw: Path, dataset: str) -> None:
    """Make a task's validation split a copy of its training split."""
    (train,), (validation,) = ((raw / dataset).rglob(f"{s}-*.parquet") for s in ("train", "valid*"))
    pq.write_table(pq.read_table(train), validation)


def test_a_task_of_which_nothing_is_left_is_named_with_the_reason(
    store: Store, tmp_path: Path
) -> None:
    leak(tmp_path / "raw", "nyu-mll/glue/rte")
    refresh(store, tmp_path / "raw", "rte")
    pipeline.make_overlap(store)
    facts = pipeline.make_mixture(store, RECIPE, "tiny-bert").facts
    assert list(facts["left_out"]) == ["rte"]
    assert "every training row is, exactly or nearly, a row of" in facts["left_out"]["rte"]
    assert facts["rows_by_task"]["squad"] > 0
    alone = replace(RECIPE, tasks=replace(RECIPE.tasks, include=("rte",)))
    with pytest.raises(MuppetError, match=r"'clean': no row is left .*rte: every training row"):
        pipeline.make_mixture(store, alone, "tiny-bert")


def test_a_cap_counts_what_is_left(store: Store) -> None:
    pipeline.make_overlap(store)
    clean = pipeline.make_mixture(store, RECIPE, "tiny-bert")
    capped = replace(RECIPE, name="capped", mixture=replace(RECIPE.mixture, caps={"squad": 15}))
    few = pipeline.make_mixture(store, capped, "tiny-bert")
    assert few.facts["rows_by_task"] == {**clean.facts["rows_by_task"], "squad": 15}
    assert rows(store, few, "squad") < rows(store, clean, "squad")


def test_a_mixture_without_a_report_is_refused_and_told_what_to_do(store: Store) -> None:
    with pytest.raises(MuppetError, match=r"materialize overlap, or set mixture\.decontaminate"):
        pipeline.make_mixture(store, RECIPE, "tiny-bert")
    assert pipeline.make_mixture(store, DIRTY, "tiny-bert").facts["rows"]


def test_a_report_of_other_rows_is_refused_until_it_is_made_again(
    store: Store, tmp_path: Path
) -> None:
    pipeline.make_overlap(store)
    path = next((tmp_path / "raw/nyu-mll/glue/rte").glob("train-*.parquet"))
    pq.write_table(pq.read_table(path).slice(1), path)
    refresh(store, tmp_path / "raw", "rte")
    with pytest.raises(MuppetError, match=r"other rows of shards/rte .* materialize overlap"):
        pipeline.make_mixture(store, RECIPE, "tiny-bert")
    pipeline.make_overlap(store)
    assert pipeline.make_mixture(store, RECIPE, "tiny-bert").facts["rows"]


def test_a_report_that_never_saw_a_task_is_refused(store: Store) -> None:
    shutil.move(store.root / "shards" / "rte", store.root / "rte")
    pipeline.make_overlap(store)
    shutil.move(store.root / "rte", store.root / "shards" / "rte")
    with pytest.raises(MuppetError, match="no rows of shards/rte"):
        pipeline.make_mixture(store, RECIPE, "tiny-bert")


def test_steps_take_the_place_of_epochs_where_they_can(store: Store) -> None:
    assert pipeline.make_mixture(store, DIRTY, "tiny-bert", steps=3).facts["steps"] == 3
    with pytest.raises(BadConfig, match=r"'dirty' with steps = 0: .*greater than 0"):
        pipeline.make_mixture(store, DIRTY, "tiny-bert", steps=0)
    whole = replace(DIRTY, mixture=replace(DIRTY.mixture, batching="sequential"))
    assert pipeline.make_mixture(store, whole, "tiny-bert").facts["epochs"] == 1
    with pytest.raises(BadConfig, match=r"'dirty' with steps = 3: sequential .* give epochs"):
        pipeline.make_mixture(store, whole, "tiny-bert", steps=3)


def test_weights_go_with_the_tasks_of_the_recipe_even_if_one_has_no_tokens(store: Store) -> None:
    def weighed(*names: str) -> Recipe:
        weights = replace(DIRTY.mixture, strategy="weights", weights=dict.fromkeys(names, 1.0))
        include = (*TASKS, "sst2")  # which has no tokens here
        return replace(DIRTY, mixture=weights, tasks=replace(DIRTY.tasks, include=include))

    mixture = pipeline.make_mixture(store, weighed(*TASKS, "sst2"), "tiny-bert")
    assert mixture.facts["left_out"] == {"sst2": "it has no training tokens"}
    assert mixture.facts["shares"]["rte"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(BadConfig, match="does not name sst2"):
        pipeline.make_mixture(store, weighed(*TASKS), "tiny-bert")
    with pytest.raises(BadConfig, match="names cola, not among"):
        pipeline.make_mixture(store, weighed(*TASKS, "sst2", "cola"), "tiny-bert")


def test_fine_tuning_takes_the_training_split_as_it_is(tmp_path: Path) -> None:
    assert not RECIPE.finetune.mixture.decontaminate
    path = tmp_path / "wrong.toml"
    path.write_text("[mixture]\nsteps = 1\n[finetune.mixture]\nsteps = 1\ndecontaminate = true\n")
    with pytest.raises(
        MuppetError, match=r"finetune\.mixture: decontaminate is for \[mixture\] alone"
    ):
        load(path)
