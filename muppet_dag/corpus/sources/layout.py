"""Which files of a repository are a split: the layouts that datasets on the Hub come in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from muppet_dag.catalogue.task import CONVERTED, HubDataset
from muppet_dag.corpus.sources import card
from muppet_dag.errors import Absent, SourceError

_SHARD = r"(?:-(\d{5})-of-(\d{5})(?:-[0-9a-f]{16})?)?\.parquet"  # older pushes end in a fingerprint


def match(files: Iterable[str], config: str, split: str) -> list[str]:
    """The parquet files of one split, in order, out of a repository's file names. Empty: none.

    Knows the layouts in use: ``config/split-00000-of-00003.parquet``, ``config/split/0000.parquet``
    (the Hub's own conversion), and, for config ``default`` or a repository that keeps no config in
    folders, ``data/split-….parquet``, ``split-….parquet``, ``split.parquet``.
    SourceError if shards are missing, doubled, or only partly converted.
    """
    parquet = [name for name in files if name.endswith(".parquet")]
    alone = _single(parquet) or config == "default"
    folders = [f"{config}/"] + (["data/", ""] if alone else [])
    for folder in folders:
        if names := _shards(parquet, folder + split) or _converted(parquet, folder + split):
            return names
    if any(name.startswith(f"{config}/partial-{split}/") for name in parquet):
        raise SourceError(
            f"the Hub converted {config}/{split} only in part (folder partial-{split}), so rows "
            "would be missing; use a revision or a copy that holds the whole split"
        )
    return []


def choose(
    files: list[str], dataset: HubDataset, where: str, cards: Mapping[str, str]
) -> dict[str, list[str]]:
    """Files of each raw split that the catalogue names and that exists.

    What the repository's README (``cards``, by file name) says of its config comes first, then the
    layouts of :func:`match`, then the rules by which ``datasets`` tells splits by names.
    SourceError, opening with ``where``, if none gives any. Which of them a task cannot do without,
    the normaliser knows.
    """
    splits = list(dict.fromkeys(part.split for part in dataset.slices.values()))
    try:
        every = _splits(files, dataset.config, splits, cards)
        matches = {split: names for split, names in every.items() if names}
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    if matches:
        return matches
    raise SourceError(
        f"{where}: no parquet file for split {' or '.join(map(repr, splits))} of config "
        f"{dataset.config!r}; there is {_inventory(files)}{_advice(files, dataset, cards)}"
    )


def scope(
    files: Sequence[str], dataset: HubDataset, cards: Mapping[str, str], where: str
) -> list[str]:
    """Files that may be read for a dataset's config, whichever of its splits is asked for, and the
    README where it decides. Absent, opening with ``where``, if there is none."""
    try:
        named = card.named(cards, files, dataset.config)
    except SourceError as error:
        raise SourceError(f"{where}: {error}") from error
    if named and any(named.values()):
        return sorted({name for names in named.values() for name in names} | set(cards))
    parquet = [name for name in files if name.endswith(".parquet")]
    inside = [name for name in parquet if name.startswith(f"{dataset.config}/")]
    if not inside and (dataset.config == "default" or _single(parquet)):
        inside = parquet
    if not inside:
        raise Absent(
            f"{where}: no parquet file of config {dataset.config!r}; there is "
            f"{_inventory(list(files))}{_advice(list(files), dataset, cards)}"
        )
    return inside


def _splits(
    files: list[str], config: str, splits: list[str], cards: Mapping[str, str]
) -> dict[str, list[str]]:
    named = card.named(cards, files, config)
    if named and any(named.values()):
        return {split: _whole(_parquet(named.get(split, []), split)) for split in splits}
    matches = {split: match(files, config, split) for split in splits}
    if not all(matches.values()) and not card.declared(cards):
        guessed = _by_name(files, config)
        matches = {split: names or guessed.get(split, []) for split, names in matches.items()}
    return matches


def _by_name(files: list[str], config: str) -> dict[str, list[str]]:
    """Splits by the names of the files in the config's folder, or of all where there are none."""
    start = f"{config}/" if any(_is_parquet(name, f"{config}/") for name in files) else ""
    if not start and config != "default" and not _single(files):
        return {}
    inside = [name.removeprefix(start) for name in files if _is_parquet(name, start)]
    guessed = card.by_name(inside) if inside else {}
    return {split: _whole([start + name for name in names]) for split, names in guessed.items()}


def _whole(names: list[str]) -> list[str]:
    """The same names. SourceError if shards of one set are missing."""
    for stem in dict.fromkeys(re.sub(f"{_SHARD}$", "", name) for name in names):
        _shards(names, stem)
    return names


def _parquet(names: list[str], split: str) -> list[str]:
    """Those of a split that are parquet. SourceError if most are of another kind, which
    ``datasets`` would then read."""
    parquet = [name for name in names if name.endswith(".parquet")]
    others = [name for name in names if name not in parquet]
    if len(others) > len(parquet):
        raise SourceError(
            f"split {split!r} is {_inventory(others, 5)}, and only parquet is read; convert it, or "
            f"on the Hub use revision {CONVERTED}"
        )
    return parquet


def _is_parquet(name: str, start: str) -> bool:
    return name.startswith(start) and name.endswith(".parquet")


def _single(files: Iterable[str]) -> bool:
    """Whether a repository keeps no config in folders."""
    parquet = [name for name in files if name.endswith(".parquet")]
    return all(re.fullmatch(r"(data/)?[^/]+", name) for name in parquet)


def _advice(files: list[str], dataset: HubDataset, cards: Mapping[str, str]) -> str:
    script = next((name for name in files if "/" not in name and name.endswith(".py")), None)
    if script and dataset.revision != CONVERTED:
        return f". It is made by a script ({script}), which never runs: use revision {CONVERTED}"
    if configs := card.declared(cards):
        return f". The README names the configs {', '.join(configs)}"
    if files and not any(name.endswith(".parquet") for name in files):
        return f". Only parquet is read; on the Hub use revision {CONVERTED}"
    return ""


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
