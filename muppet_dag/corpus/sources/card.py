"""Which files are a split by the rules of the ``datasets`` package: what a repository's README
names (``configs`` in its YAML header), and else what the files' own names say.

Both work on names alone, so the Hub and a clone of it are read alike. No script is looked at.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from muppet_dag.errors import SourceError

#: The files that may name data files, as the package reads them: the later one wins.
CARDS = ("README.md", ".huggingface.yaml")
#: Files named for a split, and the word that makes them so: ``train-00000-of-00001.parquet``.
_SHARD = re.compile(r"(?:.*/)?([^/]+)-\d{5}-of-\d{5}[^/]*")

_memory = Lock()  # fsspec's file system in memory is one for the whole process


def named(
    cards: Mapping[str, str], names: Sequence[str], config: str
) -> dict[str, list[str]] | None:
    """Files of each split that the README gives a config, also those that are no parquet.

    None if it names no such config. ``default`` is whatever config it calls so, or its only one.
    SourceError for a header that cannot be understood.
    """
    configs = declared(cards)
    if config not in configs:
        config = _default(configs) if config == "default" else None
    if config is None:
        return None
    settings = configs[config]
    inside = _inside(names, str(settings.get("data_dir") or ""))
    splits = _resolve(inside, settings.get("data_files"))
    return {split: [inside[name] for name in files] for split, files in splits.items()}


def declared(cards: Mapping[str, str]) -> Mapping[str, Mapping[str, Any]]:
    """Configs by name with their settings, out of the texts of ``CARDS``."""
    if not any(re.search(r"^configs\s*:", text, re.MULTILINE) for text in cards.values()):
        return {}  # so that a README without them costs no import
    import yaml
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    header: dict[str, Any] = {}
    for name in (name for name in CARDS if name in cards):
        text = cards[name].removeprefix("\ufeff")
        try:
            header |= (DatasetCard(text).data.to_dict() if name.endswith(".md")
                       else yaml.safe_load(text) or {})  # fmt: skip
            configs = MetadataConfigs.from_dataset_card_data(DatasetCardData(**header))
        except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
            problem = " ".join(str(error).split())[:300]
            raise SourceError(f"the header of {name} cannot be read: {problem}") from error
    return configs


def by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Parquet files of each split, told by the words in their names or folders; all are ``train``
    where no name holds one. SourceError where one file would serve two splits, or where the same
    names in several folders look like several configs.

    Unlike the package, sets of numbered shards are the splits that they are called by:
    ``train_r1-00000-of-00001`` is no part of ``train``.
    """
    parquet = [name for name in names if name.endswith(".parquet")]
    several = len({match[1] for name in parquet if (match := _SHARD.fullmatch(name))}) > 1
    splits = {
        split: [name for name in files if _serves(name, split, several)]
        for split, files in _resolve(parquet).items()
    }
    _require_distinct(splits)
    return splits


def _require_distinct(splits: Mapping[str, Sequence[str]]) -> None:
    for split, files in splits.items():
        twice = [name for name, n in Counter(PurePosixPath(f).name for f in files).items() if n > 1]
        if twice:
            several = ", ".join(name for name in files if PurePosixPath(name).name == twice[0])
            raise SourceError(
                f"split {split!r} would be {several}, which look like several configs; name the "
                "one that is meant"
            )
    for name, count in Counter(name for files in splits.values() for name in files).items():
        if count > 1:
            both = " and ".join(repr(split) for split, files in splits.items() if name in files)
            raise SourceError(f"{name} would be {both} by its name; rename it")


def _serves(name: str, split: str, several: bool) -> bool:
    """Whether a file is of that split, if it is a numbered shard (one set of ``several``)."""
    from datasets.data_files import SPLIT_KEYWORDS

    shard, words = _SHARD.fullmatch(name), SPLIT_KEYWORDS.get(split, [split])
    if shard is None or shard[1] in words:
        return True
    if re.match(rf"({'|'.join(words)})[-._ 0-9].", shard[1]):
        return False
    return not several or any(word in name for word in words)


def _default(configs: Mapping[str, Mapping[str, Any]]) -> str | None:
    marked = [name for name, settings in configs.items() if settings.get("default")]
    return marked[0] if marked else next(iter(configs)) if len(configs) == 1 else None


def _inside(names: Sequence[str], folder: str) -> dict[str, str]:
    """The names below a folder, without it, and what they are in the repository."""
    start = f"{folder.strip('/')}/" if folder.strip("./") else ""
    return {name.removeprefix(start): name for name in names if name.startswith(start)}


@contextmanager
def _in_memory(names: Iterable[str]) -> Iterator[str]:
    """The names as empty files of a file system in memory, since the package matches patterns
    against a file system; gives its address."""
    import fsspec

    memory, root = fsspec.filesystem("memory"), f"/{uuid.uuid4().hex}"
    with _memory:
        memory.mkdir(root)
        try:
            for name in names:
                memory.pipe_file(f"{root}/{name}", b"")
            yield f"memory://{root}"
        finally:
            memory.rm(root, recursive=True)


def _resolve(names: Iterable[str], data_files: Any = None) -> dict[str, list[str]]:
    """Names by split: those that patterns match, or where there are none, by the names' words."""
    from datasets.data_files import EmptyDatasetError, get_data_patterns, sanitize_patterns

    with _in_memory(names) as base:
        try:
            patterns = get_data_patterns(base) if data_files is None else data_files
        except EmptyDatasetError:
            return {}
        patterns = sanitize_patterns(patterns)
        return {split: _matches(listed, base) for split, listed in patterns.items()}


def _matches(patterns: Sequence[str], base: str) -> list[str]:
    """All that the patterns match, each file once; a pattern may match nothing."""
    from datasets.data_files import resolve_pattern
    from datasets.utils.file_utils import is_relative_path

    files: dict[str, None] = {}
    for pattern in patterns:
        if not is_relative_path(pattern) or "::" in pattern or ".." in PurePosixPath(pattern).parts:
            raise SourceError(
                f"the README names {pattern!r}, which lies outside of the repository; only the "
                "repository's own files are read"
            )
        with suppress(FileNotFoundError):
            hits = resolve_pattern(pattern.removeprefix("./"), base)
            files |= dict.fromkeys(hit.removeprefix(f"{base}/") for hit in hits)
    return list(files)
