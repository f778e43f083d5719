"""What a power cut would lose: what is written and not yet synced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class Disk:
    """Watches what is synced and renamed below a folder, by asking the file system: also files
    that Rust and C++ write are seen."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.synced = home, dict[int, tuple[int, int]]()
        self.unsynced: list[str] = []
        self.renamed: list[Path] = []
        fsync, rename, replace = os.fsync, os.rename, os.replace

        def watched_fsync(number: int) -> None:
            fsync(number)
            at = os.fstat(number)
            self.synced[at.st_ino] = _state(at)

        def watch(call):
            def watched(source, target, **more) -> None:
                if Path(target).is_relative_to(home):
                    self._rename(Path(source), Path(target))
                call(source, target, **more)

            return watched

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "rename", watch(rename))
        monkeypatch.setattr(os, "replace", watch(replace))

    def _rename(self, source: Path, target: Path) -> None:
        self.renamed.append(target)
        below = [source, *source.rglob("*")] if source.is_dir() else [source]
        self.unsynced += [f"{path} before {target}" for path in below if not self.is_synced(path)]

    def is_synced(self, path: Path) -> bool:
        at = path.stat()
        return self.synced.get(at.st_ino) == _state(at)

    def unnamed(self) -> list[str]:
        """What is in its place and whose name, or that of a folder above it, may get lost."""
        there = [path for path in self.renamed if path.exists()]
        folders = {above for path in there for above in path.parents if self.home in above.parents}
        return [str(folder) for folder in {*folders, self.home} if not self.is_synced(folder)]


def _state(at: os.stat_result) -> tuple[int, int]:
    return at.st_size, at.st_mtime_ns
