"""The DAG end to end on a few samples, in Dagster, with real processes below."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dag import NAME, TASKS, failure, plan, run, run_all, settings

from muppet_dag import samples
from muppet_dag.store import Manifest, Store, lineage, verify


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.make(
        tmp_path_factory.mktemp("samples"), train_rows=64, evaluation_rows=24, tasks=TASKS
    )


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory):
    """Everything materialized once: settings, instance, results."""
    root = tmp_path_factory.mktemp("dag")
    chosen = settings(root / "home", str(source), root / "recipes")
    with dg.DagsterInstance.ephemeral() as instance:
        yield chosen, instance, run_all(chosen, instance)


def test_every_asset_down_to_the_leaderboard_is_made(made) -> None:
    chosen, _, ran = made
    assert [result.success for result in ran] == [True] * len(ran)
    board = Store(chosen.home).require("leaderboard/all")
    table = pq.read_table(board.path / "leaderboard.parquet").to_pylist()
    assert {row["task"] for row in table} == {"rte"}
    assert all(
        row["base_mean"] is not None and row["prefinetuned_mean"] is not None for row in table
    )
    assert (board.path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")


def test_data_versions_are_content_hashes(made) -> None:
    chosen, instance, _ = made
    store = Store(chosen.home)
    for key, name, partition in [
        ("shards/cola", "shards/cola", None),
        ("overlap", "overlap/all", None),
        ("prefinetuned", f"prefinetuned/{NAME}", NAME),
        ("finetuned/rte", f"finetuned/{NAME}.pre/rte", NAME),
        ("leaderboard", "leaderboard/all", None),
    ]:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(key.split("/")),
                asset_partitions=[partition] if partition else None,
            ),
            limit=1,
        ).records
        tags = records[0].event_log_entry.asset_materialization.tags
        assert tags["dagster/data_version"] == store.require(name).version


def test_lineage_reaches_every_dataset_from_the_leaderboard(made) -> None:
    chosen, _, _ = made
    board = Store(chosen.home).require("leaderboard/all")
    leaves = {name: version for _, name, version, manifest in lineage(board.path) if not manifest}
    datasets = {name for name in leaves if name.startswith("directory:")}
    assert len(datasets) == len(TASKS)
    assert all(leaves[name].startswith("sha256-") for name in datasets)
    assert "made:tiny-bert" in leaves


@pytest.fixture(scope="module")
def again(made):
    """Everything materialized once more, and what the models were before."""
    chosen, instance, _ = made
    return Store(chosen.home).require(f"prefinetuned/{NAME}"), run_all(chosen, instance)


def test_making_it_again_changes_nothing(made, again) -> None:
    chosen, _, _ = made
    store, (before, ran) = Store(chosen.home), again
    for result in ran:
        fresh = [
            m.metadata["made_in_this_run"].value
            for e in result.get_asset_materialization_events()
            if (m := e.materialization)
        ]
        assert result.success and fresh and not any(fresh)
    assert store.require(f"prefinetuned/{NAME}").version == before.version


def test_the_mixture_leaves_out_what_the_overlap_report_found(made) -> None:
    chosen, _, ran = made
    store = Store(chosen.home)
    report, mixture = store.require("overlap/all"), store.require(f"mixture/{NAME}")
    assert mixture.manifest.inputs["overlap/all"] == report.version
    leaked = {name: report.facts["affected"].get(name, {}).get("leaked", 0) for name in TASKS}
    assert mixture.facts["decontaminated"] == leaked
    metadata = {
        e.asset_key.to_user_string(): e.materialization.metadata
        for result in ran
        for e in result.get_asset_materialization_events()
    }
    assert metadata["mixture"]["decontaminated"].value == sum(leaked.values())
    assert metadata["overlap"]["rows_to_leave_out"].value == sum(leaked.values())


def test_training_is_tracked_offline(made) -> None:
    chosen, instance, ran = made
    runs = list((chosen.home / "wandb" / "wandb").glob("offline-run-*"))
    # One pre-finetuning, two seeds from two initialisations, the leaderboard.
    assert len(runs) == 1 + 2 * 2 + 1
    trained = next(r for r in ran if r.asset_materializations_for_node("prefinetuned"))
    messages = [r.user_message for r in instance.all_logs(trained.run_id) if r.user_message]
    begun = next(i for i, text in enumerate(messages) if text.startswith("W&B run prefinetuned"))
    stepped = next(i for i, text in enumerate(messages) if "step 2/6" in text)
    assert "offline-run-" in messages[begun] and begun < stepped


def test_where_a_model_was_followed_is_shown_also_when_it_was_there_already(made, again) -> None:
    shown = [
        (materialization, facts, [place for each in runs for place in each["tracked"]])
        for result in again[1]
        for event in result.get_asset_materialization_events()
        if (materialization := event.materialization).asset_key.path[0]
        in ("prefinetuned", "finetuned")
        for facts in [Manifest.read(Path(materialization.metadata["path"].value)).facts]
        for runs in [list(facts["runs"].values()) if "runs" in facts else [facts]]
    ]
    assert len(shown) == 3
    for materialization, facts, places in shown:
        text = materialization.metadata["wandb"].value
        assert text.removeprefix("- ").split("\n- ") == places
        assert len(places) == len(facts.get("seeds", [1])) and all(Path(p).is_dir() for p in places)


def test_runs_are_tagged_with_what_they_are_about(made) -> None:
    _, instance, ran = made
    tags = [instance.get_run_by_id(result.run_id).tags for result in ran]
    about = [{k: v for k, v in each.items() if k.startswith("muppet/")} for each in tags]
    assert {"muppet/recipe": NAME} in about, "mixture and model"
    assert {"muppet/arm": NAME, "muppet/recipe": NAME, "muppet/task": "rte"} in about
    (shared,) = [each for each in about if each.get("muppet/arm", "").startswith("base.")]
    assert shared.keys() == {"muppet/arm", "muppet/task"}, "a baseline is no recipe's own"


def test_a_tracked_run_says_what_it_is_and_what_became_of_it(made) -> None:
    from wandb_files import read

    chosen, _, _ = made
    store = Store(chosen.home)
    tuned, board = store.require(f"finetuned/{NAME}.pre/rte"), store.require("leaderboard/all")
    (place,) = tuned.facts["runs"]["2"]["tracked"]
    about, config, _, summary = read(Path(place))
    assert sorted(about.tags) == sorted(["finetuned", NAME, "pre-finetuned", "rte"])
    assert (config["seed"], config["recipes"], config["initialisation"]) == (
        2, [NAME], "pre-finetuned"
    )  # fmt: skip
    versions = {
        **tuned.manifest.inputs,
        **store.require("tokens/tiny-bert-64-16-128/rte").manifest.inputs,
    }
    assert versions.items() <= config["versions"].items()
    assert (summary["model"], summary["path"]) == (tuned.version, str(tuned.path))
    assert summary["validation/mean"] == tuned.facts["runs"]["2"]["metrics"]["validation/mean"]
    (place,) = (chosen.home / "wandb" / "wandb").glob("offline-run-*-leaderboard-*")
    row = pq.read_table(board.path / "leaderboard.parquet").to_pylist()[0]
    assert read(place)[3][f"{NAME}/rte/{row['metric']}/gain"] == row["gain"]


def test_checks_report_numbers_at_every_materialization(made) -> None:
    _, _, ran = made
    checks = {(e.asset_key.path[-1], e.check_name): e for e in ran[0].get_asset_check_evaluations()}
    assert checks["cola", "labels"].passed
    assert checks["cola", "labels"].metadata["acceptable"].value > 0
    # The samples are smaller than the real datasets, and the check says so.
    assert not checks["cola", "row_count"].passed
    assert checks["cola", "row_count"].severity == dg.AssetCheckSeverity.WARN


def test_a_mixture_of_all_its_tasks_is_complete(made) -> None:
    _, _, ran = made
    drawn = next(r for r in ran if r.asset_materializations_for_node("mixture"))
    (check,) = drawn.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.partition) == ("complete", True, NAME)


def test_a_bad_dataset_fails_alone_and_the_mixture_says_it_is_left_out(
    source: Path, tmp_path: Path
) -> None:
    bad = shutil.copytree(source, tmp_path / "source")
    path = next((bad / "nyu-mll/glue/cola").glob("train-*.parquet"))
    table = pq.read_table(path)
    labels = table.column("label").to_pylist()
    labels[17] = 7
    column = table.schema.get_field_index("label")
    pq.write_table(table.set_column(column, table.field(column), pa.array(labels)), path)
    chosen = settings(tmp_path / "home", str(bad), tmp_path / "recipes")
    small = plan(chosen)
    with dg.DagsterInstance.ephemeral() as instance:
        shards = run(chosen, instance, *(f"shards/{name}" for name in TASKS))
        message = failure(shards, "shards__cola")
        for part in ("'cola'", "'train'", "'label'", "row 17", "'7'", "0 to 1"):
            assert part in message
        assert run(chosen, instance, "overlap").success
        others = [f"tokens/{name}" for name in TASKS if name != "cola"]
        run(chosen, instance, "base_model", partition="tiny-bert")
        key = small.tokenizer(small.recipes[NAME])
        assert run(chosen, instance, *others, partition=key).success
        mixture = run(chosen, instance, "mixture", partition=NAME)
        assert mixture.success
        (check,) = mixture.get_asset_check_evaluations()
        assert (check.check_name, check.passed, check.partition) == ("complete", False, NAME)
        assert check.severity == dg.AssetCheckSeverity.WARN
        (made,) = mixture.asset_materializations_for_node("mixture")
        first, second = list(made.metadata.items())[:2]
        assert first == ("tasks", dg.TextMetadataValue("4 of 5 tasks"))
        assert second[0] == "left_out" and "cola" in second[1].value
        logged = [r for r in instance.all_logs(mixture.run_id) if r.level == logging.WARNING]
        assert any("4 of 5 tasks; left out: cola (" in r.user_message for r in logged)
    manifest = Store(chosen.home).require(f"mixture/{NAME}").manifest
    assert manifest.facts["left_out"] == {"cola": "it has no training tokens"}
    assert not (chosen.home / "shards" / "cola").exists()


def test_shards_that_lost_half_their_rows_are_refused_and_the_old_ones_stay(
    source: Path, tmp_path: Path
) -> None:
    changing = shutil.copytree(source, tmp_path / "source")
    chosen = settings(tmp_path / "home", str(changing), tmp_path / "recipes")
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(chosen, instance, "shards/rte").success
        good = Store(chosen.home).require("shards/rte").version
        path = next((changing / "nyu-mll/glue/rte").glob("train-*.parquet"))
        pq.write_table(pq.read_table(path).slice(0, 20), path)
        result = run(chosen, instance, "shards/rte")
    message = failure(result, "shards__rte")
    assert "train has 20 rows, it had 64" in message and "raise the entry's version" in message
    checks = {e.check_name: e for e in result.get_asset_check_evaluations()}
    assert not checks["shrunk"].passed and checks["shrunk"].blocking
    assert checks["shrunk"].metadata["train_before"].value == 64
    assert Store(chosen.home).require("shards/rte").version == good


def test_a_missing_input_says_what_to_materialize_first(source: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "home", str(source), tmp_path / "recipes")
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(chosen, instance, "mixture", "prefinetuned", partition=NAME)
        assert "at least one task with tokens" in failure(result, "mixture")


def test_every_artefact_is_whole_and_holds_no_pickle(made) -> None:
    chosen, _, _ = made
    manifests = [p for p in chosen.home.rglob("manifest.json") if "work" not in p.parts]
    assert len(manifests) > 15
    for path in manifests:
        verify(path.parent)
    endings = {p.suffix for p in chosen.home.rglob("*") if p.is_file()}
    assert not endings & {".bin", ".pt", ".pkl", ".pickle", ".pth"}
    assert not (chosen.home / "work").exists() or not any((chosen.home / "work").iterdir())


def test_the_mixture_is_a_table_that_can_be_asked(made) -> None:
    import duckdb

    chosen, _, _ = made
    mixture = pa.ipc.open_file(
        Store(chosen.home).require(f"mixture/{NAME}").path / "mixture.arrow"
    ).read_all()
    assert mixture.column_names == ["step", "slot", "task", "row"]
    with duckdb.connect() as con:
        asked = con.sql("SELECT count(DISTINCT slot) FROM mixture WHERE step = 3").fetchall()
    assert asked == [(4,)]


def test_metrics_of_a_run_are_whole(made) -> None:
    chosen, _, _ = made
    path = Store(chosen.home).require(f"prefinetuned/{NAME}").path / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines if "train/loss" in line] == [1, 3, 5]
    assert any("validation/mean" in line for line in lines)


@pytest.mark.slow
def test_online_the_model_arrives_and_is_the_one_that_was_trained_offline(
    made, tmp_path, monkeypatch
) -> None:
    import wandb
    from standin_wandb import StandinWandb

    chosen, _, _ = made
    before = Store(chosen.home).require(f"prefinetuned/{NAME}")
    home = shutil.copytree(chosen.home, tmp_path / "home")
    shutil.rmtree(home / "prefinetuned")
    wandb.teardown()  # it reads its environment once
    with StandinWandb() as server, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "q" * 40)
        result = run(replace(chosen, home=home), instance, "prefinetuned", partition=NAME)
        wandb.teardown()
        assert result.success
        (trained,) = (r for r in server.runs.values() if r.get("jobType") == "prefinetuned")
        messages = [r.user_message for r in instance.all_logs(result.run_id)]
    model = Store(home).require(f"prefinetuned/{NAME}")
    assert model.version == before.version  # where it was followed is no part of what it is
    (place,) = model.facts["tracked"]
    assert place.startswith(server.url) and any(place in text for text in messages)
    (shown,) = result.asset_materializations_for_node("prefinetuned")
    assert place in shown.metadata["wandb"].value
    assert trained["summary"]["model"] == model.version
    assert set(server.artifacts) == {f"prefinetuned-{NAME}", f"mixture-{NAME}"}
    assert {"model.safetensors", "mixture.arrow", "manifest.json"} <= set(server.files)
