"""Damage is noticed before anything is made of it, and making the thing again mends it."""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muppet_dag.errors import MuppetError
from muppet_dag.store import MANIFEST, Artefact, Manifest, Store, verify, whole

#: Where to sync a file costs nothing.
MEMORY = Path("/dev/shm")
CONTENT = {"a.bin": bytes(range(256)) * 40, "sub/b.bin": b"two" * 1000}


def below(store: Store, made: list[str] | None = None) -> Artefact:
    """An artefact that others are made of; ``made`` counts how often it really is."""

    def make(folder: Path, _key: str) -> dict:
        (folder / "sub").mkdir()
        for name, content in CONTENT.items():
            (folder / name).write_bytes(content)
        if made is not None:
            made.append("below")
        return {"rows": 2}

    return store.build("shards/a", make, code_version="1", inputs={"hub:x": "1"})


def above(store: Store, version: str, number: int = 1, **more) -> Artefact:
    def make(folder: Path, _key: str) -> dict:
        content = (store.open("shards/a", version).path / "a.bin").read_bytes()
        (folder / "copy.bin").write_bytes(content)
        return {}

    inputs = {"shards/a": version}
    return store.build(
        "tokens/a", make, code_version="1", inputs=inputs, parameters={"number": number}, **more
    )


def flip(path: Path, at: int) -> None:
    """Change one bit; the size stays."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << (at % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", range(8))
def test_one_flipped_bit_of_an_input_stops_the_build_and_making_it_again_mends_it(
    tmp_path: Path, seed: int
) -> None:
    chance, store, made = random.Random(seed), Store(tmp_path), []
    artefact = below(store, made)
    if seed % 2:
        above(store, artefact.version)  # whole so far, and remembered to be
    path = artefact.path / chance.choice(sorted(CONTENT))
    flip(path, chance.randrange(10**6))
    with pytest.raises(MuppetError, match=f"{path} is damaged.*materialize shards/a again"):
        above(Store(tmp_path), artefact.version, number=2)
    assert below(Store(tmp_path), made).version == artefact.version
    assert made == ["below", "below"] and verify(artefact.path)
    assert above(Store(tmp_path), artefact.version, number=2).fresh


def test_what_lies_below_an_input_is_checked_where_it_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shards = below(store)
    tokens = above(store, shards.version)
    flip(shards.path / "sub" / "b.bin", 17)

    def model(reads: list[Artefact]) -> Artefact:
        return store.build(
            "models/a", lambda *_: {}, code_version="1",
            inputs={"tokens/a": tokens.version}, reads=iter(reads),
        )  # fmt: skip

    with pytest.raises(MuppetError, match=r"shards/a: .*b\.bin is damaged"):
        model([shards])
    assert model([]).fresh


def test_damage_that_sets_the_time_back_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artefact = below(store)
    above(store, artefact.version)
    path = artefact.path / "a.bin"
    at = path.stat()
    flip(path, 3)
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    with pytest.raises(MuppetError, match="is damaged"):
        above(Store(tmp_path), artefact.version, number=2)


def test_a_file_is_hashed_once_for_all_processes_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    real = whole.file_hash
    monkeypatch.setattr(whole, "file_hash", lambda p: hashed.append(p.name) or real(p))
    store = Store(tmp_path)
    artefact = below(store)
    for number in range(3):
        above(Store(tmp_path), artefact.version, number)
    assert sorted(hashed) == ["a.bin", "b.bin"]
    os.utime(artefact.path / "a.bin")
    above(Store(tmp_path), artefact.version, 4)
    assert sorted(hashed) == ["a.bin", "a.bin", "b.bin"]
    for memory in tmp_path.glob("shards/a/verified/*"):
        memory.write_bytes(b"\xff{")
    above(Store(tmp_path), artefact.version, 5)
    assert len(hashed) == 5


# --- Broken manifests and pointers ----------------------------------------------------------------

PLACES: dict[str, Callable[[Artefact], Path]] = {
    "manifest": lambda artefact: artefact.path / MANIFEST,
    "current": lambda artefact: artefact.path.parent / "current",
    "made": lambda artefact: next((artefact.path.parent / "made").iterdir()),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@st.composite
def broken(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to break a file: cut off, zeros as after a power cut, noise, other JSON, a value."""
    kind = draw(st.sampled_from(["cut", "zeros", "noise", "json", "value"]))
    at, noise, other = draw(st.floats(0, 0.99)), draw(st.binary(max_size=40)), draw(JSON)

    def apply(text: bytes) -> bytes:
        if kind == "cut":
            return text[: int(at * len(text))]
        if kind == "zeros":
            return bytes(len(text))
        if kind == "noise":
            return text[: int(at * len(text))] + noise
        if kind == "json":
            return json.dumps(other).encode()
        fields = json.loads(text)
        fields[sorted(fields)[int(at * len(fields))]] = other
        return json.dumps(fields).encode()

    return apply


@pytest.mark.parametrize("place", PLACES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip
@given(damage=broken())
def test_a_broken_manifest_or_pointer_is_told_plainly_and_mends(
    place: str, damage: Callable[[bytes], bytes]
) -> None:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        _breaks_and_mends(Path(folder), place, damage)


def _breaks_and_mends(home: Path, place: str, damage: Callable[[bytes], bytes]) -> None:
    made: list[str] = []
    before = below(Store(home), made)
    path = PLACES[place](before)
    path.write_bytes(damage(path.read_bytes()))
    try:  # who reads it: as it was, or one line that says what to make again
        now = Store(home).current("shards/a")
        assert now.manifest == before.manifest
    except MuppetError as error:
        assert str(path) in str(error) or str(before.path) in str(error)
        assert "materialize shards/a again" in str(error)
    after = below(Store(home), made)
    assert (after.path, after.manifest.facts) == (before.path, {"rows": 2})
    assert Store(home).require("shards/a").version == before.version and verify(after.path)
    assert len(made) <= 2 if place == "manifest" else len(made) == 1


def test_a_lost_pointer_costs_no_second_training(tmp_path: Path, caplog) -> None:
    made: list[str] = []
    artefact = below(Store(tmp_path), made)
    for pointer in (artefact.path.parent / "made").iterdir():
        pointer.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert not below(Store(tmp_path), made).fresh
    assert "made/" in caplog.text and "not the pointer of an artefact" in caplog.text
    assert made == ["below"]


def test_a_manifest_whose_facts_were_changed_is_refused(tmp_path: Path) -> None:
    artefact = below(Store(tmp_path))
    path = artefact.path / MANIFEST
    path.write_text(path.read_text().replace('"rows": 2', '"rows": 3'))
    with pytest.raises(MuppetError, match="its digest differs"):
        Manifest.read(artefact.path)


def test_a_manifest_of_an_earlier_version_has_no_digest_and_is_read(tmp_path: Path) -> None:
    artefact = below(Store(tmp_path))
    path = artefact.path / MANIFEST
    fields = json.loads(path.read_text())
    del fields["digest"]
    path.write_text(json.dumps(fields))
    assert Manifest.read(artefact.path) == artefact.manifest


def test_after_a_version_was_deleted_it_is_said_what_to_make_and_that_mends_it(tmp_path) -> None:
    store = Store(tmp_path)
    artefact = below(store)
    for path in sorted(artefact.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    artefact.path.rmdir()
    with pytest.raises(MuppetError, match="materialize shards/a again"):
        store.require("shards/a")
    assert below(store).fresh and store.require("shards/a").version == artefact.version
