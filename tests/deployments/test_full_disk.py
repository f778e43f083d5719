"""On a disk with more and more room each artefact of the way is whole, or it says what it lacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_disk

from muppet_dag import samples

TASKS = ("rte", "stsb")

#: Makes each artefact with twice the room until it fits. argv: disk, raw data, folder for a recipe.
WAY = """
import re, sys
from pathlib import Path
import small_disk
from dag import NAME, RECIPE
from muppet_dag import catalogue, pipeline, recipes
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.errors import MuppetError
from muppet_dag.store import Store, verify

disk, raw, folder = map(Path, sys.argv[1:4])
folder.mkdir()
(folder / f"{NAME}.toml").write_text(re.sub("include = .*", "include = ['rte', 'stsb']", RECIPE))
recipe, base = recipes.get(NAME, folder), "tiny-bert"
tasks = [catalogue.get(name) for name in ("rte", "stsb")]
source = DirectorySource(raw)
way = [
    *(lambda store, task=task: pipeline.make_shards(store, source, task) for task in tasks),
    pipeline.make_overlap,
    lambda store: pipeline.make_base(store, base),
    *(lambda store, task=task: pipeline.make_tokens(store, recipe, base, task) for task in tasks),
    lambda store: pipeline.make_mixture(store, recipe, base),
]
for make in way:
    room = 0
    while True:
        small_disk.resize(disk, room)
        try:
            made = make(Store(disk / "home"))
            break
        except MuppetError as error:
            assert re.search(r"No space left on device.* left.*another folder", str(error)), error
            assert str(disk) in str(error), error
            assert not list((disk / "home" / ".building").glob("*")), error
        room = 2 * room or 4096
    small_disk.resize(disk)
    assert verify(made.path) and room, made.manifest.name
    print(made.manifest.name)
"""


@pytest.mark.slow
def test_the_way_to_a_mixture_on_disks_of_many_sizes(tmp_path: Path) -> None:
    raw = samples.make(tmp_path / "raw", train_rows=64, evaluation_rows=24, tasks=TASKS)
    said = small_disk.run(WAY, tmp_path / "disk", raw, tmp_path / "recipes").split()
    assert len(said) == 7 and said[-1] == "mixture/few"


#: Trains with twice the room until it fits, as a command by hand does. argv: disk, job file.
TRAINING = """
import re, shutil, subprocess, sys
from pathlib import Path
import small_disk

disk, job = Path(sys.argv[1]), Path(sys.argv[2])
output, command = disk / "work", [sys.executable, "-m", "muppet_dag.training"]
output.mkdir()
shutil.copy(job, output)
room = 0
while True:
    small_disk.resize(disk, room)
    done = subprocess.run([*command, str(output / "job.json")], capture_output=True, text=True)
    if done.returncode == 0:
        break
    last = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr, done.stderr
    assert re.search(r"^rank 0: .*No space left on device.* left there", last), last
    assert str(output) in last and not (output / "model").exists(), last
    assert not (output / "checkpoints" / ".writing").exists()
    print("refused")
    room = 2 * room or 4096
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_on_disks_of_many_sizes(tmp_path: Path, bench) -> None:
    """Checkpoints, metrics, facts and the model."""
    place, raw = tmp_path / "disk", tmp_path / "raw"
    job = bench.job(raw, "rte", "stsb", checkpoint_every=3, validate_every=5)
    replace(job, output=str(place / "work")).write(raw / "job.json")
    assert small_disk.run(TRAINING, place, raw / "job.json").split().count("refused") > 5


#: One asset of Dagster's on a disk that has room for nothing. argv: disk, raw data, recipes.
ASSET = """
import sys
from pathlib import Path
import dagster as dg
import dag, small_disk

disk, raw, folder = map(Path, sys.argv[1:4])
chosen = dag.settings(disk / "home", str(raw), folder)
chosen.home.mkdir()
small_disk.resize(disk, 20_000)
with dg.DagsterInstance.ephemeral() as instance:
    result = dag.run(chosen, instance, "shards/rte")
    kinds = [event.event_type_value for event in result.all_events]
    assert not result.success and "STEP_UP_FOR_RETRY" not in kinds, kinds
    print(dag.failure(result, "shards__rte"))
"""


@pytest.mark.slow
def test_an_asset_on_a_full_disk_is_not_tried_again(tmp_path: Path) -> None:
    raw = samples.make(tmp_path / "raw", train_rows=64, evaluation_rows=24, tasks=TASKS)
    said = small_disk.run(ASSET, tmp_path / "disk", raw, tmp_path / "recipes")
    assert "No space left on device" in said and "left" in said


#: ``make demo`` with too little room for Dagster's own books. argv: disk.
DEMO = """
import subprocess, sys
command = [sys.executable, "-m", "deployments.local.demo"]
done = subprocess.run(command, capture_output=True, text=True)
print(done.returncode, done.stdout, done.stderr)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("size", [64_000, 1_500_000, 3_000_000, 5_000_000])
def test_the_demo_on_a_full_disk_ends_with_a_line(tmp_path: Path, size: int) -> None:
    """The last two sizes are too small for Dagster's SQLite."""
    place = tmp_path / "disk"
    variables = {"MUPPET_HOME": str(place / "home"), "MUPPET_SOURCE": "samples", "DAGSTER_HOME": ""}
    said = small_disk.run(DEMO, place, size=size, **variables)
    last = said.strip().splitlines()[-1]
    assert said.startswith("1 ") and "Traceback" not in said
    assert str(place) in last and "No space left on device" in last and "MUPPET_HOME" in last
