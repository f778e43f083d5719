"""A power cut at any moment leaves an artefact whole or not there.

What is not synced is lost, though names may stay. Two trials: each rename of a finished thing is
watched for files below it that were not synced; and a real ext4, whose disk is copied as it is at
one moment, is looked at from the copy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dag import NAME, RECIPE
from power import Disk

from muppet_dag import catalogue, pipeline, recipes, samples
from muppet_dag.corpus.sources import DirectorySource
from muppet_dag.store import Store


def launch(jobs) -> None:
    """Train in this process, where it can be watched."""
    from muppet_dag.training.__main__ import main

    assert main([str(job) for job in jobs]) == 0


@pytest.mark.slow
def test_nothing_is_renamed_that_was_not_synced_on_the_whole_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, home = [catalogue.get(name) for name in ("cola", "rte")], tmp_path / "home"
    raw = samples.make(tmp_path / "raw", train_rows=32, evaluation_rows=8, tasks=("cola", "rte"))
    text = re.sub("include = .*", 'include = ["cola", "rte"]', RECIPE).replace("[1, 2]", "[1]")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{NAME}.toml").write_text(text)
    recipe = recipes.get(NAME, tmp_path / "recipes")
    home.mkdir()
    disk, store, base = Disk(home, monkeypatch), Store(home), "tiny-bert"
    for task in tasks:
        pipeline.make_shards(store, DirectorySource(raw), task)
    pipeline.make_overlap(store)
    pipeline.make_base(store, base)
    for task in tasks:
        pipeline.make_tokens(store, recipe, base, task)
    pipeline.make_mixture(store, recipe, base)
    pipeline.prefinetune(store, recipe, base, launch)
    _, arm = pipeline.arms(recipe, base)
    pipeline.finetune(store, arm, "rte", launch)
    pipeline.evaluate(store, arm, catalogue.get("rte"))
    pipeline.make_leaderboard(store, [recipe], base)
    assert disk.unsynced == []
    assert disk.unnamed() == []
    kinds = {path.relative_to(home).parts[0] for path in disk.renamed}
    assert kinds >= {"shards", "tokens", "mixture", "prefinetuned", "finetuned", "leaderboard"}
    seen = {path.name.split("-")[0] for path in disk.renamed if "work" in path.parts}
    assert seen >= {"model", "predictions.arrow", "step", "run.json", "job.json"}


# --- A real disk ----------------------------------------------------------------------------------

#: Makes an artefact as training leaves one: weights linked in from outside the build's folder,
#: small files, files in folders. argv: home.
BUILDER = """
import os, sys
from pathlib import Path
from muppet_dag.store import Store

store = Store(Path(sys.argv[1]))

def make(folder, key):
    work = store.workspace(key, "models/a")
    (work / "model.safetensors").write_bytes(os.urandom(3_000_000))
    os.link(work / "model.safetensors", folder / "model.safetensors")
    (folder / "seed-1").mkdir()
    for name in ("config.json", "tokenizer.json", "seed-1/predictions.arrow"):
        (folder / name).write_bytes(os.urandom(5_000))
    return {"rows": 2}

store.build("models/a", make, code_version="1", inputs={"hub:x": "1"})
print("made", flush=True)
"""
#: Prints the facts of what it finds whole; argv: home.
READER = """
import sys
from muppet_dag.store import Store, verify

store = Store(sys.argv[1])
print(len(verify(store.require("models/a").path).files))
"""


def can_mount() -> bool:
    tools = all(shutil.which(tool) for tool in ("mkfs.ext4", "losetup", "mount"))
    return tools and os.geteuid() == 0 and Path("/dev/loop-control").exists()


@pytest.mark.skipif(not can_mount(), reason="mounting an image takes root")
def test_what_was_finished_before_a_power_cut_is_whole_after_it(tmp_path: Path) -> None:
    """The names are on the disk by then, and of what was not synced nothing else is."""
    image, cut = tmp_path / "disk.img", tmp_path / "cut.img"
    with open(image, "wb") as file:
        file.truncate(48_000_000)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    with mounted(image, tmp_path / "before") as home:
        done = run(BUILDER, home / "store")
        assert done.stdout == "made\n", done.stderr
        shutil.copyfile(image, cut)  # the power goes
    with mounted(cut, tmp_path / "after") as home:
        done = run(READER, home / "store")
        assert done.stdout == "4\n", done.stderr


class mounted:
    """An image as a folder, for as long as the block runs."""

    def __init__(self, image: Path, at: Path) -> None:
        self.at = at
        at.mkdir()
        command = ["mount", "-o", "loop", str(image), str(at)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")

    def __enter__(self) -> Path:
        return self.at

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", str(self.at)], check=True)


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, str(home)], capture_output=True, text=True)
