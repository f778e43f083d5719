"""A dataset changes on the Hub, the automation ticks: what is affected runs, floor by floor.

The Hub is a real HTTP server on loopback, asked by the real client.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dag import NAME, QUIET, plan, settings
from standin_hub import StandinHub

from assets.evaluation import evaluation_asset, leaderboard_asset
from assets.training import finetuned_asset
from deployments.local.location import build
from muppet_dag import catalogue, samples

GLUE = sorted(name for name, t in catalogue.TASKS.items() if t.dataset.repository == "nyu-mll/glue")
TASKS = (*GLUE, "copa", "squad")
TOKENIZED = ("cola", "copa", "rte", "squad", "stsb")
FRIDAY = datetime(2026, 11, 20, 12)


class World:
    """A stand-in Hub, the DAG over it, and an automation whose clock the test moves."""

    def __init__(self, hub: StandinHub, root: Path, instance: dg.DagsterInstance) -> None:
        self.hub, self.instance, self.root = hub, instance, root
        self.chosen = settings(root / "home", f"hub:{hub.url}", root / "recipes")
        self.defs = build(self.chosen)
        self.raw = samples.make(root / "raw", train_rows=48, evaluation_rows=16, tasks=TASKS)
        self.now, self.cursor = FRIDAY, None
        for repository in sorted({catalogue.get(t).dataset.repository for t in TASKS}):
            self.push(repository)

    def push(self, repository: str, readme: str = "") -> None:
        """Make a commit of a repository's files as they are now, on the branch its tasks read."""
        tasks = [
            catalogue.get(t) for t in TASKS if catalogue.get(t).dataset.repository == repository
        ]
        folder, converted = self.raw / repository, "convert" in tasks[0].dataset.revision
        files = {"README.md": readme.encode()}
        for path in sorted(folder.rglob("*.parquet")):
            name = path.relative_to(folder)
            split = f"{name.parent}/{name.name.rsplit('-', 3)[0]}/0000.parquet"
            files[split if converted else str(name)] = path.read_bytes()
        self.hub.put(repository, files, branch=tasks[0].dataset.revision)

    def run(self, keys: set[dg.AssetKey], partition: str | None = None) -> None:
        job = self.defs.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(
            asset_selection=sorted(keys), partition_key=partition, instance=self.instance,
            run_config=QUIET,
        ).success  # fmt: skip

    def observe(self) -> None:
        keys = {
            dg.AssetKey(["hub", *catalogue.get(t).dataset.repository.split("/")]) for t in TASKS
        }
        job = self.defs.resolve_job_def("observe")
        assert job.execute_in_process(
            asset_selection=sorted(keys), instance=self.instance, run_config=QUIET
        ).success

    def tick(self, later: timedelta = timedelta(minutes=1)) -> dict[str, set[str | None]]:
        """One evaluation of all conditions: asset to partitions asked for, which are then made."""
        self.now += later
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, cursor=self.cursor, evaluation_time=self.now
        )
        self.cursor = result.cursor
        asked: dict[str, set[str | None]] = {}
        for each in result.results:
            subset = each.true_subset
            if subset.is_empty:
                continue
            partitioned = subset.is_partitioned
            parts = set(subset.expensively_compute_partition_keys()) if partitioned else {None}
            asked["/".join(each.key.path)] = parts
        for name, parts in asked.items():
            if not name.startswith(("prefinetuned", "finetuned", "evaluation", "leaderboard")):
                for part in parts:
                    self.run({dg.AssetKey(name.split("/"))}, part)
        return asked


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("automation")
    with StandinHub(root / "hub") as hub, dg.DagsterInstance.ephemeral() as instance:
        world = World(hub, root, instance)
        small = plan(world.chosen)
        world.observe()
        world.run({dg.AssetKey(["shards", name]) for name in TASKS})
        world.run({dg.AssetKey("overlap")})
        world.run({dg.AssetKey("base_model")}, "tiny-bert")
        key = small.tokenizer(small.recipes[NAME])
        world.run({dg.AssetKey(["tokens", name]) for name in TOKENIZED}, key)
        world.run({dg.AssetKey("mixture")}, NAME)
        world.tick()
        yield world


def change_cola(world: World) -> None:
    path = next((world.raw / "nyu-mll/glue/cola").glob("train-*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.slice(0, table.num_rows - 4), path)


def test_an_observation_without_change_asks_for_nothing(world: World) -> None:
    world.observe()
    assert world.tick() == {}


def test_a_new_commit_with_the_same_rows_stops_at_the_shards(world: World) -> None:
    world.push("nyu-mll/glue", readme="a better description")
    world.observe()
    assert world.tick() == {f"shards/{name}": {None} for name in GLUE}
    assert world.tick() == {}


def test_changed_rows_reach_the_tokens_of_that_task_and_training_waits_for_its_day(
    world: World,
) -> None:
    small = plan(world.chosen)
    key = small.tokenizer(small.recipes[NAME])
    change_cola(world)
    world.push("nyu-mll/glue")
    world.observe()
    assert world.tick() == {f"shards/{name}": {None} for name in GLUE}
    assert world.tick() == {"tokens/cola": {key}, "overlap": {None}}
    assert world.tick() == {}, "training is not asked for on a Friday"
    assert world.tick(timedelta(days=3)) == {"mixture": {NAME}}, "but on Monday"
    assert world.tick(timedelta(days=7)) == {}, "and not again without a change"


def test_a_repository_that_vanished_fails_alone_when_observed(world: World) -> None:
    world.hub.fault("repository", "super_glue", times=50)
    keys = [dg.AssetKey(["hub", "aps", "super_glue"]), dg.AssetKey(["hub", "nyu-mll", "glue"])]
    result = world.defs.resolve_job_def("observe").execute_in_process(
        asset_selection=keys, instance=world.instance, run_config=QUIET, raise_on_error=False
    )
    failed = {event.step_key for event in result.all_events if event.is_step_failure}
    assert failed == {"hub__aps__super_glue"}


def test_fine_tunings_are_asked_for_where_their_own_model_or_tokens_changed(tmp_path):
    """Nothing is trained here: what has been made is only told to Dagster."""
    chosen = settings(tmp_path / "home", "samples", tmp_path / "recipes")
    small = plan(chosen)
    recipe = small.recipes[NAME]
    parts = {"base_model": small.by_base, "prefinetuned": small.by_recipe,
             "tokens/rte": small.by_tokenizer, "tokens/boolq": small.by_tokenizer}  # fmt: skip
    above = [dg.AssetSpec(name.split("/"), partitions_def=part) for name, part in parts.items()]
    below = [finetuned_asset("rte", small), evaluation_asset("rte", small)]
    defs = dg.Definitions(
        [*above, *below, leaderboard_asset(small)], resources=build(chosen).resources
    )
    baseline, own = (arm.name for arm in small.downstream["rte"])
    tokens = small.tokenizer(recipe)
    with dg.DagsterInstance.ephemeral() as instance:

        def made(version: int, **partition_by_asset: str) -> None:
            for name, partition in partition_by_asset.items():
                instance.report_runless_asset_event(dg.AssetMaterialization(
                    name.split("/"), partition=partition,
                    tags={"dagster/data_version": str(version)},
                ))  # fmt: skip

        def asked(cursor: dg.AutomationCursor | None) -> tuple[dict[str, set[str]], object]:
            result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
            subsets = {"/".join(each.key.path): each.true_subset for each in result.results}
            return {
                name: set(subset.expensively_compute_partition_keys())
                for name, subset in subsets.items()
                if not subset.is_empty
            }, result.cursor

        made(1, **{"base_model": "tiny-bert", "prefinetuned": NAME, "tokens/rte": tokens})
        for arm in (baseline, own):
            made(1, **{"finetuned/rte": arm, "evaluation/rte": arm})
        wanted, cursor = asked(None)
        assert wanted == {}
        for changed, expected in [
            ({"prefinetuned": NAME}, {"finetuned/rte": {own}}),
            ({"tokens/rte": tokens}, {"finetuned/rte": {baseline, own}}),
            ({"base_model": "tiny-bert"}, {"finetuned/rte": {baseline}}),
            ({"finetuned/rte": baseline}, {"evaluation/rte": {baseline}}),
            ({"tokens/boolq": tokens}, {}),
        ]:
            made(1, **changed)
            wanted, cursor = asked(cursor)
            assert wanted == {}, "found again as it was"
            made(2, **changed)
            wanted, cursor = asked(cursor)
            assert wanted == expected


def test_a_folder_with_some_of_the_datasets_is_observed_without_a_failure(tmp_path: Path) -> None:
    folder = samples.make(tmp_path / "folder", train_rows=8, tasks=["copa", "cola"])
    chosen = settings(tmp_path / "home", str(folder), tmp_path / "recipes")
    with dg.DagsterInstance.ephemeral() as instance:
        result = build(chosen).resolve_job_def("observe").execute_in_process(
            instance=instance, run_config=QUIET
        )  # fmt: skip
        assert result.success
        seen = {e.asset_key.path[-1]: e for e in result.get_asset_observation_events()}
    assert (
        "dagster/data_version" in seen["super_glue"].asset_observation_data.asset_observation.tags
    )
    absent = seen["squad"].asset_observation_data.asset_observation
    assert "dagster/data_version" not in absent.tags
    assert "no folder" in str(absent.metadata["not_in_this_source"].value)


def test_an_artefact_that_is_found_again_asks_for_nothing_below(world: World) -> None:
    world.run({dg.AssetKey("mixture")}, NAME)
    world.run({dg.AssetKey(["shards", "cola"])})
    assert world.tick() == {}
