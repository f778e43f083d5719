"""Where a task's raw rows live: a dataset on the Hub, or a user's own files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from muppet_dag.errors import BadConfig
from muppet_dag.files import regular

#: Script-based Hub repositories are read from the conversion that the Hub itself keeps.
CONVERTED = "refs/convert/parquet"

_SLICE = re.compile(r"(?P<split>[\w.\-]+)(\[(?P<low>\d{1,2})?%?:(?P<high>\d{1,2})?%?\])?")


@dataclass(frozen=True)
class Slice:
    """A part of a raw split: rows whose seeded hash falls into ``[low, high)`` of 100 buckets."""

    split: str
    low: int = 0
    high: int = 100

    @classmethod
    def parse(cls, text: str) -> Slice:
        """Read ``"train"``, ``"train[:5%]"`` or ``"train[5%:]"`` (as ``datasets`` writes them).

        Unlike ``datasets`` the percent count rows in the order of a seeded hash of their text,
        not in file order: many files are sorted by label, and equal texts stay on one side.
        """
        match = _SLICE.fullmatch(text)
        if not match:
            raise BadConfig(f"split {text!r}: expected a name such as train or train[:5%]")
        return cls(match["split"], int(match["low"] or 0), int(match["high"] or 100))


@dataclass(frozen=True)
class HubDataset:
    """Where raw rows live: a dataset repository, one config, and the raw split of each role."""

    repository: str
    config: str
    revision: str
    splits: Mapping[str, str]

    @property
    def slices(self) -> dict[str, Slice]:
        """The raw split (or a part of it) that serves as each role, train first."""
        return {role: Slice.parse(text) for role, text in self.splits.items()}


def hub(
    repository: str,
    config: str = "default",
    *,
    revision: str = "main",
    train: str | None = "train",
    validation: str | None = "validation",
    test: str | None = None,
    **more: str,
) -> HubDataset:
    """Name a dataset on the Hugging Face Hub.

    ``test`` is off unless named, since most benchmarks hide their test labels. Further
    evaluation splits are named by keyword (``validation_mismatched="validation_mismatched"``).
    """
    roles = {"train": train, "validation": validation, "test": test, **more}
    return HubDataset(repository, config, revision, {r: s for r, s in roles.items() if s})


#: Files that a task can be read from, by their endings.
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True)
class Files:
    """Raw rows in a user's own files: one file for each raw split, and the part of each role.

    To what names an origin it looks like a dataset repository. Its revision is always what the
    files hold now.
    """

    paths: Mapping[str, str]
    splits: Mapping[str, str]
    quote: str = '"'
    revision: ClassVar[str] = "now"

    @property
    def slices(self) -> dict[str, Slice]:
        """The raw split (or a part of it) that serves as each role, train first."""
        return {role: Slice.parse(text) for role, text in self.splits.items()}

    @property
    def repository(self) -> str:
        """``file/reviews.csv``: the name of the first file."""
        return f"file/{Path(next(iter(self.paths.values()))).name}"

    @property
    def config(self) -> str:
        """All paths: files of the same name are told apart by them."""
        return ", ".join(self.paths.values())

    def within(self, folder: Path) -> Files:
        """The same with paths taken from ``folder``. BadConfig if one is no file."""
        paths = {split: folder / Path(path).expanduser() for split, path in self.paths.items()}
        for split, path in paths.items():
            try:
                regular(path)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                what = f"there is no file {path}" if missing else f"{path}: {error.strerror}"
                raise BadConfig(f"files.{split}: {what}") from error
        return replace(self, paths={split: str(path.resolve()) for split, path in paths.items()})


Dataset = HubDataset | Files


def files(
    train: str,
    validation: str | None = None,
    test: str | None = None,
    *,
    quote: str = '"',
    **more: str,
) -> Files:
    """Name files of one's own: CSV, TSV, JSON lines or Parquet, told by their endings.

    A role may also be a part of another one's file, ``validation="train[:10%]"``; ``train`` is
    then the rest of its file. Paths are relative to the file that holds the declaration.
    ``quote`` encloses fields of CSV and TSV; with ``""`` no sign does, as in most TSV files.
    """
    if len(quote) > 1 or quote in tuple("\t\r\n, "):
        raise BadConfig(f'files.quote = {quote!r}: expected one sign, or "" for none')
    roles = {"train": train, "validation": validation, "test": test, **more}
    named = {role: text for role, text in roles.items() if text}
    paths = {role: text for role, text in named.items() if text.lower().endswith(ENDINGS)}
    splits = {role: role if role in paths else text for role, text in named.items()}
    for role, text in splits.items():
        if Slice.parse(text).split not in paths:
            raise BadConfig(
                f"files.{role} = {text!r}: expected a file that ends in {', '.join(ENDINGS)}, or a "
                "part of another role's file such as train[:10%]"
            )
    rests = {role: _rest(role, splits) for role in paths}
    return Files(paths, {**splits, **rests}, quote)


def _rest(role: str, splits: Mapping[str, str]) -> str:
    """What other roles leave of a role's file: no row serves two."""
    parts = [Slice.parse(text) for other, text in splits.items() if other != role]
    taken = sorted((part.low, part.high) for part in parts if part.split == role)
    edges = [0, *(edge for part in taken for edge in part), 100]
    if edges != sorted(edges):
        raise BadConfig(f"files: the parts of {role} that serve as other roles overlap")
    left = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
    if len(left) != 1:
        raise BadConfig(f"files.{role}: the other roles must leave one part of it, at either end")
    low, high = left[0]
    return role if (low, high) == (0, 100) else f"{role}[{low}%:{f'{high}%' if high < 100 else ''}]"
