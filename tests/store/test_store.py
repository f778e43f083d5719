"""An artefact is there whole or not at all, is found again, and names what it was made from."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from muppet_dag.errors import BadConfig, MuppetError
from muppet_dag.store import MANIFEST, Artefact, Manifest, Store, lineage, verify

#: Builds ``things/one`` as a process of its own; argv: store, what to do while making it.
BUILDER = """
import os, signal, sys, time
from pathlib import Path
from muppet_dag.store import Store

home, mode = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if mode == "die before rename":
    os.rename = die

def make(folder, key):
    (folder / "a.txt").write_text("one")
    with open(home.parent / "made.log", "a") as log:
        log.write("made\\n")
    if mode == "die":
        die()
    if mode == "slow":
        time.sleep(1.5)
    (folder / "b.txt").write_text("two")
    return {"rows": 2}

made = Store(home).build("things/one", make, code_version="1", inputs={"hub:x": "c0ffee"})
print(made.version, made.fresh)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def build(store: Store, name: str = "things/one", *, inputs=None, **more) -> Artefact:
    """The same artefact as ``BUILDER`` makes."""
    files = more.pop("files", {"a.txt": "one", "b.txt": "two"})

    def make(folder: Path, _key: str) -> dict:
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        return {"rows": 2}

    inputs = {"hub:x": "c0ffee"} if inputs is None else inputs
    return store.build(name, more.pop("make", make), code_version="1", inputs=inputs, **more)


def never(_folder: Path, _key: str) -> dict:
    raise AssertionError("this was to be found, not made")


def start(store: Store, mode: str) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILDER, str(store.root), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def artefacts(store: Store) -> list[Path]:
    """Every folder under the store that a reader would take for an artefact."""
    hidden = (".building", ".locks")
    return [p.parent for p in store.root.rglob(MANIFEST) if not set(p.parts) & set(hidden)]


def test_the_same_inputs_find_the_artefact_and_make_nothing(store):
    first = build(store, parameters={"size": 3})
    again = build(store, parameters={"size": 3}, make=never)
    assert first.fresh and not again.fresh
    assert (again.path, again.manifest) == (first.path, first.manifest)
    assert first.facts == {"rows": 2}


@pytest.mark.parametrize("change", [{"inputs": {"hub:x": "dead"}}, {"parameters": {"size": 4}}])
def test_other_inputs_or_parameters_make_it_anew(store, change):
    build(store)
    assert build(store, **change).fresh


def test_the_order_of_inputs_does_not_count(store):
    first = build(store, inputs={"hub:x": "1", "hub:y": "2"})
    again = build(store, inputs={"hub:y": "2", "hub:x": "1"}, make=never)
    assert again.version == first.version


def test_another_commit_with_equal_rows_gives_the_same_version(store):
    assert build(store).version == build(store, inputs={"hub:x": "dead"}).version


def test_other_artefacts_as_inputs_give_another_version_even_if_the_bytes_are_equal(store):
    """A mixture of equal shape over other tokens must not pass for the old one."""
    tokens = [
        build(store, "tokens/a", inputs={"hub:x": text}, files={"a.txt": text}).version
        for text in "12"
    ]
    old, new = (build(store, inputs={"tokens/a": version}) for version in tokens)
    assert old.version != new.version
    assert store.current("things/one").manifest.inputs == {"tokens/a": tokens[1]}


def test_volatile_files_are_listed_but_do_not_count(store, tmp_path):
    files = {"a.txt": "one", "log/time.txt": "1 s"}
    first = build(store, files=files, volatile=("log/time.txt",))
    other = Store(tmp_path / "other")
    second = build(other, files={**files, "log/time.txt": "2 s"}, volatile=("log/time.txt",))
    assert first.version == second.version
    assert "log/time.txt" in second.manifest.files


@pytest.mark.parametrize("mode", ["die", "die before rename"])
def test_a_killed_build_leaves_no_artefact_and_the_next_one_succeeds(store, tmp_path, mode):
    child = start(store, mode)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert artefacts(store) == []
    assert store.current("things/one") is None
    artefact = build(store)
    assert artefact.fresh and verify(artefact.path)
    assert artefact.version == build(Store(tmp_path / "undisturbed")).version
    assert not any((store.root / ".building").iterdir())


def test_a_failed_build_leaves_no_artefact(store):
    def fails(folder: Path, _key: str) -> dict:
        (folder / "a.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build(store, make=fails)
    assert artefacts(store) == []
    assert "half" not in (build(store).path / "a.txt").read_text()


@pytest.mark.parametrize("damage", [lambda p: os.truncate(p, 1), os.remove])
def test_a_damaged_artefact_is_made_again(store, damage):
    first = build(store)
    damage(first.path / "a.txt")
    again = build(store)
    assert again.fresh and again.version == first.version
    assert verify(again.path)


def test_two_processes_that_build_the_same_make_it_once(store, tmp_path):
    both = [start(store, "slow"), start(store, "slow")]
    ends = [child.communicate() for child in both]
    outputs = [out.split() for out, _ in ends]
    assert [child.returncode for child in both] == [0, 0]
    assert (tmp_path / "made.log").read_text() == "made\n"
    assert outputs[0][0] == outputs[1][0]
    assert sorted(fresh for _, fresh in outputs) == ["False", "True"]
    second, first = sorted(range(2), key=lambda index: outputs[index][1] == "True")
    holder = f"process {both[first].pid} on {socket.gethostname()}"
    who = f"waiting for {holder}, which makes things/one since "
    assert who in ends[second][1] and "waiting" not in ends[first][1]


def test_a_build_that_waits_takes_over_when_the_first_one_is_killed(store, tmp_path):
    first = start(store, "slow")
    while not (tmp_path / "made.log").exists():
        time.sleep(0.01)
    second = start(store, "quick")
    first.kill()
    out, _ = second.communicate()
    first.communicate()
    assert second.returncode == 0 and out.split()[1] == "True"
    assert verify(store.current("things/one").path)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../b", "a/..", "/etc/x", "a//b", "Shards/x", "a/X", "plain", "", "a/b c", "a/b\n"],
)
def test_a_name_that_is_no_safe_path_is_refused(store, name):
    with pytest.raises(BadConfig, match="artefact name"):
        build(store, name)
    assert not store.root.exists() or artefacts(store) == []


def test_what_has_not_been_made_is_told_by_name(store):
    with pytest.raises(MuppetError, match="things/one has not been made"):
        store.require("things/one")


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path):
    with pytest.raises(MuppetError, match="not a finished artefact"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("bad", ["a.txt", "b.txt"])
def test_verify_names_the_file_whose_bytes_differ(store, bad):
    artefact = build(store)
    (artefact.path / bad).write_text("six")  # as long as before
    with pytest.raises(MuppetError, match=bad):
        verify(artefact.path)


def test_verify_names_a_missing_file(store):
    artefact = build(store)
    (artefact.path / "b.txt").unlink()
    with pytest.raises(MuppetError, match=r"b\.txt is missing"):
        verify(artefact.path)


def test_lineage_walks_from_an_artefact_to_every_commit(store):
    shards = [build(store, f"shards/{t}", inputs={f"hub:org/{t}": f"commit-{t}"}) for t in "ab"]
    inputs = {artefact.manifest.name: artefact.version for artefact in shards}
    mixture = build(store, "mixture/demo", inputs=inputs)
    model = build(store, "prefinetuned/demo", inputs={"mixture/demo": mixture.version})
    walked = [(depth, name, version) for depth, name, version, _ in lineage(model.path)]
    assert walked == [
        (0, "prefinetuned/demo", model.version),
        (1, "mixture/demo", mixture.version),
        (2, "shards/a", shards[0].version),
        (3, "hub:org/a", "commit-a"),
        (2, "shards/b", shards[1].version),
        (3, "hub:org/b", "commit-b"),
    ]


def test_lineage_keeps_to_the_versions_an_artefact_was_made_from(store):
    old = build(store, "shards/a", files={"a.txt": "old"}, inputs={"hub:org/a": "1"})
    model = build(store, "prefinetuned/demo", inputs={"shards/a": old.version})
    build(store, "shards/a", files={"a.txt": "new"}, inputs={"hub:org/a": "2"})
    assert [v for *_, v, _ in lineage(model.path)] == [model.version, old.version, "1"]


def test_a_workspace_outlives_a_failure_and_goes_with_success(store):
    seen = []

    def make(folder: Path, key: str) -> dict:
        work = store.workspace(key, "things/one")
        seen.append([p.name for p in work.glob("[!.]*")])
        (work / "checkpoint").write_text("x")
        if len(seen) == 1:
            raise RuntimeError("killed")
        (folder / "a.txt").write_text("one")
        return {}

    with pytest.raises(RuntimeError):
        build(store, make=make)
    build(store, make=make)
    assert seen == [[], ["checkpoint"]]
    assert not any((store.root / "work").iterdir())
