"""A clone of a Hub repository is read with the files and splits that ``datasets`` finds there."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standin_hub import StandinHub

from muppet_dag.catalogue.task import CONVERTED, HubDataset, hub
from muppet_dag.corpus.sources import DirectorySource, HubSource, open_source
from muppet_dag.errors import SourceError

REPOSITORY = "some-body/set"


def parquet(text: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [text]}), sink)
    return sink.getvalue().to_pybytes()


def readme(*configs: str) -> str:
    return "---\nlicense: mit\nconfigs:\n" + "\n".join(configs) + "\n---\n# A set\n"


def one(name: str, **splits: str) -> str:
    lines = [f'  - split: {split}\n    path: "{path}"' for split, path in splits.items()]
    return f"- config_name: {name}\n  data_files:\n" + "\n".join(lines)


def clone(root: Path, names: list[str], card: str | None = None) -> Path:
    """A repository whose parquet files hold their own names; returns its folder."""
    folder = root / REPOSITORY
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(parquet(name) if name.endswith(".parquet") else b"a,b\n1,2\n")
    if card is not None:
        (folder / "README.md").write_text(card)
    return folder


def read(source, dataset) -> dict[str, list[str]]:
    """The names that the files of each split hold."""
    files = source.fetch(dataset, source.version(dataset))
    return {
        split: [pq.read_table(path)["text"][0].as_py() for path in paths]
        for split, paths in files.items()
    }


def all_of(splits) -> HubDataset:
    """The data set with every one of these splits."""
    return hub(REPOSITORY, **{"train": None, "validation": None, **{name: name for name in splits}})


def by_datasets(folder: Path, config: str | None = None) -> dict[str, list[str]]:
    import datasets

    builder = datasets.load_dataset_builder(str(folder), config)
    files = builder.config.data_files
    return {
        str(split): [Path(name).relative_to(folder.resolve()).as_posix() for name in names]
        for split, names in files.items()
    }


SHARDS = ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]
LAYOUTS = [
    ([*SHARDS, "data/validation-00000-of-00001.parquet"], None),
    ([*SHARDS, "data/dev-00000-of-00001.parquet", "data/random-00000-of-00001.parquet"], None),
    (["train.parquet", "dev.parquet", "test.parquet"], None),
    (["train_0.parquet", "train_1.parquet", "eval.parquet"], None),
    (["data/my-train.parquet", "data/my-valid.parquet"], None),
    (["train/a.parquet", "train/b.parquet", "validation/a.parquet"], None),
    (["rows.parquet"], None),
    (["part-00000-of-00002.parquet", "part-00001-of-00002.parquet"], None),
    (["train-00000-of-00001.parquet", "data.csv", "other.py"], None),
    (["a/x.parquet", "b/y.parquet"], readme(one("default", train="a/*", validation="b/*"))),
    (["a/x.parquet", "b/y.parquet"], readme(one("sole", train="a/*", test="b/*.parquet"))),
    (["x.parquet"], readme("- config_name: default\n  data_files: x.parquet")),
    (["sub/train.parquet", "sub/dev.parquet", "train.parquet"],
     readme("- config_name: default\n  data_dir: sub")),
]  # fmt: skip


@pytest.mark.parametrize(("names", "card"), LAYOUTS)
def test_clone_and_hub_are_read_as_datasets_reads_them(tmp_path, names, card):
    folder = clone(tmp_path / "root", names, card)
    expected = by_datasets(folder)
    dataset = all_of(expected)
    assert read(DirectorySource(tmp_path / "root"), dataset) == expected
    with StandinHub(tmp_path / "served") as standin:
        files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        standin.put(REPOSITORY, {name: path.read_bytes() for name, path in files.items()})
        source = HubSource(standin.url, cache=tmp_path / "cache", attempts=1)
        assert read(source, dataset) == expected
        assert not any(path.endswith((".py", ".csv")) for _, path in standin.requests)


WORDS = st.sampled_from(["train", "dev", "validation", "test", "a", "data", "x_train", "more"])
NAMES = st.lists(WORDS, min_size=1, max_size=2).map(lambda parts: "/".join(parts) + ".parquet")


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_any_names_give_the_splits_that_datasets_finds_or_are_refused(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("any")
    expected = by_datasets(clone(root, names))
    dataset = all_of(expected)
    try:
        files = read(DirectorySource(root), dataset)
    except SourceError as error:
        assert "look like several configs" in str(error) or "by its name" in str(error)
        return
    # A file named as a split is that split; where there is none the package's rules decide.
    exact = {s: [f for f in (f"data/{s}.parquet", f"{s}.parquet") if f in names] for s in expected}
    assert {s: f for s, f in files.items() if not exact[s]} == {
        s: list(dict.fromkeys(f)) for s, f in expected.items() if not exact[s]
    }


def test_configs_of_the_readme_are_told_apart(tmp_path):
    names = ["p/train.parquet", "q/train.parquet", "q/more.parquet"]
    card = readme(one("train", train="p/*"), one("two", train="q/train*", test="q/more*"))
    clone(tmp_path, names, card)
    source = DirectorySource(tmp_path)
    assert read(source, hub(REPOSITORY, "train")) == {"train": ["p/train.parquet"]}
    two = read(source, hub(REPOSITORY, "two", test="test"))
    assert two == {"train": ["q/train.parquet"], "test": ["q/more.parquet"]}
    with pytest.raises(SourceError, match="README names the configs train, two"):
        source.version(hub(REPOSITORY, "three"))


def test_a_config_named_like_a_split(tmp_path):
    names = [f"{c}/{s}-00000-of-00001.parquet" for c in ("train", "test") for s in ("train", "dev")]
    clone(tmp_path, names)
    files = read(DirectorySource(tmp_path), hub(REPOSITORY, "test", validation="dev"))
    assert files == {"train": [names[2]], "dev": [names[3]]}


def test_numbered_sets_are_the_splits_that_they_are_called_by(tmp_path):
    names = [f"plain/{s}-00000-of-00001.parquet" for s in ("train_r1", "train_r2", "dev_r1")]
    clone(tmp_path, names)
    source = DirectorySource(tmp_path)
    dataset = hub(REPOSITORY, "plain", train="train_r2", validation="train")
    assert read(source, dataset) == {"train_r2": [names[1]]}
    with pytest.raises(SourceError, match="no parquet file for split 'train'"):
        read(source, hub(REPOSITORY, "plain", validation=None))


def test_the_version_follows_the_readme_where_it_decides(tmp_path):
    names = ["a/x.parquet", "b/y.parquet"]
    folder = clone(tmp_path, names, readme(one("default", train="a/*")))
    source, dataset = DirectorySource(tmp_path), hub(REPOSITORY)
    before = source.version(dataset)
    (folder / "README.md").write_text(readme(one("default", train="[ab]/*")))
    assert source.version(dataset) != before
    assert read(source, dataset) == {"train": names}


@pytest.mark.parametrize("card", [None, "# No header\n", readme(one("cola", train="gone/*"))])
def test_the_folders_of_a_catalogue_are_read_as_before(tmp_path, card):
    names = ["cola/train-00000-of-00001.parquet", "mnli/train-00000-of-00001.parquet"]
    clone(tmp_path, names, card)
    files = read(DirectorySource(tmp_path), hub(REPOSITORY, "cola"))
    assert files == {"train": names[:1]}


def test_the_hubs_conversion_is_read_without_a_readme(tmp_path):
    with StandinHub(tmp_path / "served") as standin:
        files = {"cola/train/0000.parquet": parquet("z"), "README.md": readme(one("cola")).encode()}
        standin.put(REPOSITORY, files, branch=CONVERTED)
        source = HubSource(standin.url, cache=tmp_path / "cache", attempts=1)
        assert read(source, hub(REPOSITORY, "cola", revision=CONVERTED)) == {"train": ["z"]}


@pytest.mark.parametrize(
    ("names", "card", "message"),
    [
        (SHARDS[:1], None, "not one whole set"),
        (["q/train-00001-of-00002.parquet"], readme(one("default", train="q/*")), "not one whole"),
        (["train.csv", "dev.csv"], None, r"there is dev.csv, train.csv. Only parquet is read"),
        (["train.csv", "x.parquet"], readme(one("default", train="*.csv")), "only parquet is read"),
        (["a/train.parquet", "b/train.parquet"], None, "look like several configs"),
        (["x.parquet"], readme(one("default", train="../*/x.parquet")), "outside of the repo"),
        (["x.parquet"], readme(one("default", train="/etc/*")), "outside of the repository"),
        (["x.parquet"], readme(one("default", train="https://a.b/x.parquet")), "outside of the"),
        (["x.parquet"], "---\nconfigs: {oops\n---\n", "header of README.md cannot be read"),
        (["x.parquet"], readme("- data_files: x"), "header of README.md cannot be read"),
        (["train-test.parquet"], None, "would be 'train' and 'test' by its name"),
    ],
)
def test_what_cannot_be_read_right_is_refused(tmp_path, names, card, message):
    clone(tmp_path, names, card)
    with pytest.raises(SourceError, match=message) as caught:
        read(DirectorySource(tmp_path), hub(REPOSITORY))
    assert REPOSITORY in str(caught.value)


# Where the folder is


def test_a_git_lfs_pointer_is_named_as_such(tmp_path):
    folder = clone(tmp_path, ["train.parquet"])
    (folder / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(SourceError, match="git lfs pull"):
        read(DirectorySource(tmp_path), hub(REPOSITORY))


def test_what_git_keeps_is_no_data(tmp_path):
    clone(tmp_path, ["train.parquet", ".git/old/dev.parquet", ".cache/test.parquet"])
    assert list(read(DirectorySource(tmp_path), hub(REPOSITORY, test="test"))) == ["train"]


def test_links_slashes_and_relative_paths(tmp_path, monkeypatch):
    clone(tmp_path / "real", ["data/train.parquet"])
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "some-body").symlink_to(tmp_path / "real" / "some-body")
    (tmp_path / "real" / REPOSITORY / "data" / "loop").symlink_to(tmp_path / "real" / REPOSITORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spec in (f"{tmp_path}/root/", "root", "./root/", "~/root"):
        assert read(open_source(spec), hub(REPOSITORY)) == {"train": ["data/train.parquet"]}


@pytest.mark.parametrize(("inside", "fix"), [(REPOSITORY, "{0}"), ("some-body", "{0}")])
def test_naming_the_clone_itself_says_which_folder_to_name(tmp_path, inside, fix):
    clone(tmp_path / "root", ["data/train.parquet"])
    with pytest.raises(SourceError, match=f"name the folder {tmp_path / 'root'}$"):
        DirectorySource(tmp_path / "root" / inside).version(hub(REPOSITORY))


def test_a_clone_that_lies_elsewhere_says_where_to_put_it(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "README.md").write_text("---\nlicense: mit\n---\n# A set")
    with pytest.raises(SourceError, match=f"put it at FOLDER/{REPOSITORY} and name FOLDER"):
        DirectorySource(tmp_path / "set").version(hub(REPOSITORY))


def test_a_folder_of_datasets_may_have_a_readme_of_its_own(tmp_path):
    clone(tmp_path, ["data/train.parquet"])
    (tmp_path / "README.md").write_text("# What lies here")
    with pytest.raises(SourceError, match="some-body holds: set"):
        DirectorySource(tmp_path).version(hub("some-body/other"))


def test_the_cache_of_the_hubs_library(tmp_path):
    commit, other = "a" * 40, "b" * 40
    cached = tmp_path / f"datasets--{REPOSITORY.replace('/', '--')}"
    for sha in (commit, other):
        blob = cached / "blobs" / sha
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(parquet(sha))
        place = cached / "snapshots" / sha / "data" / "train.parquet"
        place.parent.mkdir(parents=True)
        place.symlink_to(os.path.relpath(blob, place.parent))
    with pytest.raises(SourceError, match="no snapshot of revision 'main'"):
        DirectorySource(tmp_path).version(hub(REPOSITORY))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(other)
    assert read(DirectorySource(tmp_path), hub(REPOSITORY)) == {"train": [other]}
    pinned = hub(REPOSITORY, revision=commit)
    assert read(DirectorySource(tmp_path), pinned) == {"train": [commit]}
