"""Raw rows arrive whole, from one known version, or not at all; and the message says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from standin_hub import StandinHub

from muppet_dag.catalogue.task import CONVERTED, hub
from muppet_dag.corpus.sources import DirectorySource, HubSource, match, open_source
from muppet_dag.errors import BadConfig, SourceError

TINY = "glue-makers/tiny"
COLA = hub(TINY, "cola")
TRAIN, SECOND = "cola/train-00000-of-00002.parquet", "cola/train-00001-of-00002.parquet"
DEV = "cola/validation-00000-of-00001.parquet"


def parquet(*texts: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": list(texts)}), sink)
    return sink.getvalue().to_pybytes()


FILES = {TRAIN: parquet("a", "b"), SECOND: parquet("c"), DEV: parquet("d")}
EXTRA = {"cola/train_r1-00000-of-00001.parquet": parquet("x"), "README.md": b"# tiny"}


@pytest.fixture
def standin(tmp_path):
    with StandinHub(tmp_path / "served") as standin:
        standin.put(TINY, FILES | EXTRA)
        yield standin


@pytest.fixture
def source(standin, tmp_path):
    return HubSource(
        standin.url, cache=tmp_path / "cache", attempts=3, first_wait=0.01, longest_wait=5
    )


@pytest.fixture
def folder(tmp_path):
    for name, data in (FILES | EXTRA).items():
        path = tmp_path / "rows" / TINY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "rows"


def read(source, dataset=COLA, version=None):
    files = source.fetch(dataset, version or source.version(dataset))
    return {split: [path.read_bytes() for path in paths] for split, paths in files.items()}


def cached(tmp_path) -> list[Path]:
    return [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.suffix == ".parquet"]


# Which files make a split


@pytest.mark.parametrize(
    ("files", "config", "split", "found"),
    [
        ("c/train-00001-of-00002.parquet c/train-00000-of-00002.parquet", "c", "train", "1 0"),
        ("c/train/0001.parquet c/train/0000.parquet", "c", "train", "1 0"),
        ("c/train.parquet d/train.parquet", "c", "train", "0"),
        ("data/train-00000-of-00001.parquet", "default", "train", "0"),
        ("data/train-00000-of-00001-b42a775f407cee45.parquet", "default", "train", "0"),
        ("data/train-00000-of-00001.parquet README.md", "sole", "train", "0"),
        ("train.parquet test.parquet", "default", "test", "1"),
        ("train-00000-of-00001.parquet", "default", "train", "0"),
        ("default/train/0000.parquet", "default", "train", "0"),
        ("data/train-00000-of-00001.parquet d/train.parquet", "c", "train", ""),
        ("c/train_r1-00000-of-00001.parquet", "c", "train", ""),
        ("c/train-extra.parquet c/train-extra-00000-of-00001.parquet", "c", "train", ""),
        ("c/pretrain-00000-of-00001.parquet", "c", "train", ""),
        ("cc/train.parquet d/c/train.parquet", "c", "train", ""),
        ("wsc.fixed/train.parquet wscxfixed/train.parquet", "wsc.fixed", "train", "0"),
        ("c/train-00000-of-00001.arrow c/train.parquet.lock", "c", "train", ""),
    ],
)
def test_match_finds_whole_split_names_in_order(files, config, split, found):
    files = files.split()
    assert match(files, config, split) == [files[int(i)] for i in found.split()]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("c/train-00000-of-00003.parquet c/train-00002-of-00003.parquet", "not one whole set"),
        ("c/train-00000-of-00001.parquet c/train-00000-of-00002.parquet", "not one whole set"),
        ("c/train.parquet c/train-00000-of-00001.parquet", "not one whole set"),
        ("c/train/0000.parquet c/train/0002.parquet", "missing"),
        ("c/partial-train/0000.parquet", "only in part"),
    ],
)
def test_match_refuses_part_of_a_split(files, words):
    with pytest.raises(SourceError, match=words):
        match(files.split(), "c", "train")


# Both forms


def test_hub_and_directory_give_the_same_bytes(source, folder):
    expected = {"train": [FILES[TRAIN], FILES[SECOND]], "validation": [FILES[DEV]]}
    assert read(source) == read(DirectorySource(folder)) == expected
    assert source.label(COLA) == f"hub:{TINY}"
    assert DirectorySource(folder).label(COLA) == f"directory:{TINY}/cola"


def test_split_named_for_several_roles_is_fetched_once(source):
    dataset = hub(TINY, "cola", train="train[5%:]", validation="train[:5%]", test="nothing_here")
    assert list(read(source, dataset)) == ["train"]


def test_open_source_reads_the_three_forms(folder, standin):
    assert open_source("hub").endpoint is None
    assert read(open_source(f"hub:{standin.url}"))["validation"] == [FILES[DEV]]
    assert read(open_source(str(folder)))["validation"] == [FILES[DEV]]


@pytest.mark.parametrize("spec", ["/nowhere/at/all", "hub:", "hub:example", ""])
def test_open_source_refuses_what_is_not_there(spec):
    with pytest.raises(BadConfig, match=r"[Ee]xpected hub") as caught:
        open_source(spec)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "config"),
    [("../x", "c"), ("a/../b", "c"), ("/etc", "c"), ("a/b/c", "c"), ("a\\b", "c"), ("..", "c"),
     ("a/b", ".."), ("a/b", "c/../.."), ("a/b", "/etc"), ("a/b", "c\\d"), ("a/b", "")],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["hub", "directory"])
def test_names_that_climb_out_are_refused(kind, repository, config, tmp_path):
    source = HubSource("http://127.0.0.1:9") if kind == "hub" else DirectorySource(tmp_path)
    with pytest.raises(BadConfig):
        source.version(hub(repository, config))


# The Hub: versions


def test_a_moved_commit_is_seen_and_the_old_one_stays_readable(source, standin):
    old = source.version(COLA)
    standin.put(TINY, {DEV: parquet("new")})
    new = source.version(COLA)
    assert old != new
    assert read(source, version=old)["validation"] == [FILES[DEV]]
    assert read(source, version=new)["validation"] == [parquet("new")]


def test_revisions_are_separate(source, standin):
    with pytest.raises(SourceError, match="no such revision") as caught:
        source.version(hub(TINY, "cola", revision=CONVERTED))
    assert TINY in str(caught.value) and CONVERTED in str(caught.value)
    standin.put(TINY, {"cola/train/0000.parquet": parquet("z")}, branch=CONVERTED)
    assert read(source, hub(TINY, "cola", revision=CONVERTED)) == {"train": [parquet("z")]}


def test_fetch_wants_a_commit_and_not_a_branch(source):
    with pytest.raises(BadConfig, match="main"):
        source.fetch(COLA, "main")


def test_an_unreachable_hub_is_an_error_even_with_a_full_cache(source, tmp_path):
    read(source)
    gone = HubSource("http://127.0.0.1:9", cache=source.cache, attempts=2, first_wait=0.01)
    with pytest.raises(SourceError, match="cannot be reached") as caught:
        gone.version(COLA)
    assert caught.value.retry and TINY in str(caught.value)


def test_offline_mode_is_an_error_that_names_the_way_out(standin, source, tmp_path):
    read(source)
    code = (
        "from muppet_dag.corpus.sources import HubSource\n"
        "from muppet_dag.catalogue.task import hub\n"
        f"HubSource({standin.url!r}, cache={str(source.cache)!r}).version(hub({TINY!r}, 'cola'))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "SourceError" in done.stderr and "HF_HUB_OFFLINE" in done.stderr


def test_endpoint_and_token_come_from_the_environment(standin, tmp_path):
    code = (
        "from muppet_dag.corpus.sources import open_source\n"
        "from muppet_dag.catalogue.task import hub\n"
        f"s = open_source('hub'); d = hub({TINY!r}, 'cola')\n"
        "print(s.fetch(d, s.version(d))['validation'][0])"
    )
    env = os.environ | {"HF_ENDPOINT": standin.url, "HF_HOME": str(tmp_path / "home")}
    env |= {"HF_TOKEN": "hf_secret"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert Path(done.stdout.strip()).read_bytes() == FILES[DEV]
    assert str(tmp_path / "home") in done.stdout
    assert "hf_secret" not in done.stdout + done.stderr


# The Hub: what passes


@pytest.mark.parametrize(
    ("kind", "where"),
    [("429", "/api/datasets"), ("500", "/api/datasets"), ("500", "/resolve/"),
     ("429", "/resolve/"), ("reset", "/resolve/"), ("cut", "/resolve/")],
)  # fmt: skip
def test_trouble_that_passes_is_waited_out(source, standin, kind, where):
    method = "GET" if kind in ("reset", "cut", "500") else ""
    standin.fault(kind, where, times=1, method=method)
    assert read(source)["train"] == [FILES[TRAIN], FILES[SECOND]]
    assert not any(fault.times for fault in standin.faults)


def test_retry_after_is_honoured(source, standin, monkeypatch):
    waits = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waits.append)
    standin.fault("429", "/api/datasets", times=2, retry_after=3)
    source.version(COLA)
    assert len(waits) == 2 and all(3 <= wait <= 5 for wait in waits)


@pytest.mark.parametrize(("kind", "where"), [("500", "/api/datasets"), ("reset", "/resolve/")])
def test_trouble_that_stays_ends_after_the_attempts_and_leaves_no_half_file(
    source, standin, tmp_path, kind, where
):
    standin.fault(kind, where, times=99, method="GET")
    with pytest.raises(SourceError) as caught:
        read(source)
    assert caught.value.retry and TINY in str(caught.value)
    assert len([r for r in standin.requests if r[0] == "GET" and where in r[1]]) == 3
    assert cached(tmp_path) == []


# The Hub: what does not pass


def test_gated_says_accept_and_token(source, standin):
    standin.fault("gated", "/resolve/", times=99)
    with pytest.raises(SourceError, match=r"Accept the terms at .*HF_TOKEN") as caught:
        read(source)
    assert TINY in str(caught.value) and not caught.value.retry


@pytest.mark.parametrize("kind", ["token", "repository"])
def test_refused_says_token(source, standin, kind):
    standin.fault(kind, "/api/", times=99)
    with pytest.raises(SourceError, match="HF_TOKEN") as caught:
        read(source)
    assert TINY in str(caught.value) and not caught.value.retry


def test_missing_repository(source):
    with pytest.raises(SourceError, match=r"nobody/nothing.*not there, or private"):
        source.version(hub("nobody/nothing"))


def test_splits_that_are_there_come_without_those_that_are_not(source):
    assert list(read(source, hub(TINY, "cola", train="training"))) == ["validation"]


def test_no_split_at_all_lists_what_there_is(source):
    with pytest.raises(SourceError, match=r"'training' or 'dev' of config 'cola'") as caught:
        read(source, hub(TINY, "cola", train="training", validation="dev"))
    assert "cola/train*.parquet" in str(caught.value) and TINY in str(caught.value)


def test_script_repository_points_to_the_conversion(source, standin):
    standin.put("a/old", {"old.py": b"import os", "README.md": b""})
    with pytest.raises(SourceError, match=rf"script \(old.py\).*{CONVERTED}"):
        read(source, hub("a/old", "c"))
    assert not any("old.py" in path for _, path in standin.requests)


def test_file_that_vanishes(source, standin):
    standin.fault("404", "/resolve/", times=99)
    with pytest.raises(SourceError, match="does not hold it"):
        read(source)


# Broken files


def test_a_broken_download_is_removed_and_tried_again(source, standin, tmp_path):
    standin.fault("truncate", DEV, times=2)  # HEAD and GET agree on the wrong size
    assert read(source)["validation"] == [FILES[DEV]]
    standin.faults.clear()
    path = source.fetch(COLA, source.version(COLA))["validation"][0]
    path.write_bytes(FILES[DEV][:-1] + b"?")  # the same size, other bytes, in the cache
    assert read(source)["validation"] == [FILES[DEV]]


def test_a_file_that_stays_truncated_is_an_error(source, standin, tmp_path):
    standin.fault("truncate", DEV, times=99)
    with pytest.raises(SourceError, match=f"{DEV}: broken copy") as caught:
        read(source)
    assert caught.value.retry
    assert not any("validation" in path.name for path in cached(tmp_path))


@pytest.mark.parametrize("kind", ["hub", "directory"])
def test_a_file_that_is_no_parquet_is_named(kind, source, standin, folder):
    standin.put(TINY, {DEV: b"PAR1 but no more"})
    (folder / TINY / DEV).write_bytes(b"PAR1 but no more")
    broken = source if kind == "hub" else DirectorySource(folder)
    with pytest.raises(SourceError, match=f"{DEV}: not a readable parquet") as caught:
        read(broken)
    assert not caught.value.retry


# Directories


def test_directory_version_follows_content_and_not_time(folder):
    source = DirectorySource(folder)
    before = source.version(COLA)
    os.utime(folder / TINY / DEV, ns=(1, 1))
    assert source.version(COLA) == before and before.startswith("sha256-")
    (folder / TINY / DEV).write_bytes(parquet("other"))
    changed = source.version(COLA)
    (folder / TINY / DEV).rename(folder / TINY / "cola/test-00000-of-00001.parquet")
    assert len({before, changed, source.version(COLA)}) == 3


def test_directory_that_changes_underway_is_refused(folder):
    source = DirectorySource(folder)
    before = source.version(COLA)
    (folder / TINY / DEV).write_bytes(parquet("other"))
    with pytest.raises(SourceError, match="changed") as caught:
        source.fetch(COLA, before)
    assert caught.value.retry


def test_missing_config_folder_names_those_there(folder):
    with pytest.raises(SourceError, match=r"no parquet file of config 'mnli'; there is cola/train"):
        DirectorySource(folder).version(hub(TINY, "mnli"))
