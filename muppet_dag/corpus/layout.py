"""Which files of a repository are a split: the layouts that datasets on the Hub come in."""

from __future__ import annotations

import re
from collections.abc import Iterable

from muppet_dag.catalogue.task import CONVERTED, HubDataset
from muppet_dag.errors import SourceError

_SHARD = r"(?:-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?)?\.parquet"  # older pushes end in a fingerprint


def match(files: Iterable[str], config: str, split: str) -> list[str]:
    """The parquet files of one split, in order, out of a repository's file names. Empty: none.

    Knows the layouts in use: ``config/split-00000-of-00003.parquet``, ``config/split/0000.parquet``
    (the Hub's own conversion), and, for config ``default`` or a repository that keeps no config in
    folders, ``data/split-….parquet``, ``split-….parquet``, ``split.parquet``.
    SourceError if shards are missing, doubled, or only partly converted.
    """
    parquet = [name for name in files if name.endswith(".parquet")]
    single = all(re.fullmatch(r"(data/)?[^/]+", name) for name in parquet)
    folders = [f"{config}/"] + (["data/", ""] if single or config == "default" else [])
    for folder in folders:
        if names := _shards(parquet, folder + split) or _converted(parquet, folder + split):
            return names
    if any(name.startswith(f"{config}/partial-{split}/") for name in parquet):
        raise SourceError(
            f"the Hub converted {config}/{split} only in part (folder partial-{split}), so rows "
            "would be missing; use a revision or a copy that holds the whole split"
        )
    return []


def choose(files: list[str], dataset: HubDataset, where: str) -> dict[str, list[str]]:
    """Files of each raw split that the catalogue names and that exists.

    SourceError, opening with ``where``, if none does. Which of them a task cannot do without, the
    normaliser knows.
    """
    parts = dataset.slices
    try:
        matches = {part.split: match(files, dataset.config, part.split) for part in parts.values()}
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    if any(matches.values()):
        return {split: names for split, names in matches.items() if names}
    splits = " or ".join(repr(split) for split in matches)
    script = next((name for name in files if "/" not in name and name.endswith(".py")), None)
    fix = ""
    if script and dataset.revision != CONVERTED:
        fix = f". It is made by a script ({script}), which never runs: use revision {CONVERTED}"
    raise SourceError(
        f"{where}: no parquet file for split {splits} of config {dataset.config!r}; "
        f"there is {_inventory(files)}{fix}"
    )


def _shards(files: list[str], stem: str) -> list[str]:
    hits = [m for name in files if (m := re.fullmatch(re.escape(stem) + _SHARD, name))]
    if not hits:
        return []
    shards = sorted((int(m[1] or 0), m[0]) for m in hits)
    totals = {int(m[2] or 1) for m in hits}
    if len(totals) > 1 or [index for index, _ in shards] != list(range(max(totals))):
        names = ", ".join(name for _, name in shards)
        raise SourceError(f"the shards of {stem} are not one whole set, but {names}")
    return [name for _, name in shards]


def _converted(files: list[str], stem: str) -> list[str]:
    hits = [m for name in files if (m := re.fullmatch(re.escape(stem) + r"/(\d+)\.parquet", name))]
    shards = sorted((int(m[1]), m[0]) for m in hits)
    if [index for index, _ in shards] != list(range(len(shards))):
        raise SourceError(f"files of {stem}/ are missing: only {', '.join(n for _, n in shards)}")
    return [name for _, name in shards]


def _inventory(files: list[str], most: int = 20) -> str:
    kinds = {re.sub(r"-\d{5}-of-\d{5}|(?<=/)\d{4,}(?=\.)", "*", name) for name in files}
    kinds = sorted(kinds, key=lambda name: (not name.endswith(".parquet"), name))
    more = f" and {len(kinds) - most} more" if len(kinds) > most else ""
    return (", ".join(kinds[:most]) or "no file at all") + more
