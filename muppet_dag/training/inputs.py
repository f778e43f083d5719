"""What a job starts from is what was made: every file is hashed once before it is trained on."""

from __future__ import annotations

from pathlib import Path

from muppet_dag.errors import MuppetError
from muppet_dag.files import file_hash
from muppet_dag.store import MANIFEST, Manifest
from muppet_dag.training.group import Group
from muppet_dag.training.job import Job


def check(job: Job, group: Group) -> None:
    """Raises MuppetError if a file of the initial model, the mixture, the tokens or the shards
    differs from its manifest; folders without one were made by hand. Workers share the hashing."""
    files = [
        each
        for folder, version in _folders(job).items()
        if (folder / MANIFEST).is_file()
        for each in _files(folder, version)
    ]
    for path, sha256 in files[group.rank :: group.world]:
        if not path.is_file() or file_hash(path) != sha256:
            raise MuppetError(
                f"{path} is missing or damaged: its bytes differ from {MANIFEST} beside it. Delete "
                f"the folder {path.parent} and make it again."
            )


def _folders(job: Job) -> dict[Path, str | None]:
    """The job's input folders and, where it names one, their version."""
    named = {Path(job.init): job.init_hash, Path(job.mixture): job.mixture_hash}
    return dict.fromkeys(Path(f) for t in job.tasks for f in (t.tokens, t.shards)) | named


def _files(folder: Path, version: str | None) -> list[tuple[Path, str]]:
    manifest = Manifest.read(folder)
    if version not in (None, manifest.content_hash):
        raise MuppetError(
            f"{folder} is version {manifest.content_hash}, and the job was written for {version}. "
            "Write the job again."
        )
    return [(folder / name, file["sha256"]) for name, file in manifest.files.items()]
