"""What the pages of Dagster say: nothing is without a word, an owner, or a job that makes it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from dag import run, settings

from deployments.local.location import build
from deployments.local.settings import Settings
from muppet_dag.catalogue import TASKS

#: Kinds that Dagster draws with a logo, of those that mean something here.
LOGOS = {"arrow", "duckdb", "huggingface", "parquet", "python", "pytorch"}


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> dg.RepositoryDefinition:
    home = tmp_path_factory.mktemp("home")
    return build(Settings(home, "samples", "tiny-bert", None, workers=1)).get_repository_def()


def test_every_asset_check_job_schedule_and_sensor_says_what_it_is(location) -> None:
    graph = location.asset_graph
    described = {key: graph.get_check_spec(key).description for key in graph.asset_check_keys}
    described |= {key: graph.get(key).description for key in graph.get_all_asset_keys()}
    named = [*location.get_all_jobs(), *location.schedule_defs, *location.sensor_defs]
    described |= {each.name: each.description for each in named if not each.name.startswith("__")}
    assert len(described) > 600
    assert [name for name, text in described.items() if not text or len(text) < 15] == []
    checks = [described[key] for key in graph.asset_check_keys]
    assert all("\n" not in text and len(text) <= 120 for text in checks)


def test_every_asset_has_an_owner_and_kinds_with_a_logo(location) -> None:
    graph = location.asset_graph
    nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
    assert [node.key for node in nodes if not node.kinds or not node.kinds <= LOGOS] == []
    # What is only observed, a repository, cannot have an owner in Dagster.
    assert [n.key for n in nodes if n.is_materializable and not n.owners] == []


def test_every_asset_is_in_a_job_of_its_floor(location) -> None:
    jobs = [job for job in location.get_all_jobs() if not job.name.startswith("__")]
    made = {key for job in jobs for key in job.asset_layer.executable_asset_keys}
    assert location.asset_graph.get_all_asset_keys() - made == set()
    names = {job.name for job in jobs}
    assert {"shards", "base_models", "tokens", "prefinetune", "finetune_rte", "compare"} <= names


def test_shards_and_tokens_say_their_columns_and_shards_where_they_come_from(location) -> None:
    graph = location.asset_graph
    for key in graph.get_all_asset_keys():
        node, metadata = graph.get(key), graph.get(key).metadata
        if key.path[0] in ("shards", "tokens"):
            names = [each.name for each in metadata["dagster/column_schema"].columns]
            assert ("text" in names) if key.path[0] == "shards" else ("input_ids" in names)
        if key.path[0] == "shards":
            task = TASKS[key.path[1]]
            assert all(each.description for each in metadata["dagster/column_schema"].columns)
            assert task.dataset.repository in metadata["repository"].value
            assert metadata["licence"] == task.licence
            assert node.freshness_policy is not None


def test_samples_are_made_up_and_warn_of_nothing(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "home", "samples", tmp_path / "recipes")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(chosen, instance, "shards/copa", "shards/rte")
    checks = result.get_asset_check_evaluations()
    assert len(checks) == 16 and all(each.passed for each in checks)
    (made,) = result.asset_materializations_for_node("shards__copa")
    assert made.metadata["dagster/uri"].value == Path(made.metadata["path"].value).as_uri()
