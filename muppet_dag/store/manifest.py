"""What an artefact says of itself, and whether its files are still what it says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from muppet_dag.errors import MuppetError
from muppet_dag.files import write_atomic

MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9_][a-z0-9_.\-]*(/[a-z0-9_][a-z0-9_.\-]*)+")


@dataclass(frozen=True)
class Manifest:
    """What an artefact is and the exact versions it was made from.

    ``name`` is the artefact's place in the store (``shards/boolq``). ``inputs`` maps the name of
    each input to its version: another artefact's content hash, or for a leaf such as
    ``hub:aps/super_glue`` the commit. ``parameters`` are the settings that decided the content,
    ``facts`` what was found while making it (row counts, drops, metrics).
    """

    name: str
    content_hash: str
    code_version: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    format: int = 1

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/manifest.json``. MuppetError if there is none, so that the folder is not an
        artefact, or if it is not what was written."""
        path = Path(folder) / MANIFEST
        try:
            fields = json.loads(path.read_bytes())
            if "digest" in fields and fields.pop("digest") != digest(fields):
                raise ValueError("its digest differs")
            manifest = cls(**fields)
        except (FileNotFoundError, NotADirectoryError) as error:
            problem = f"{folder}: no {MANIFEST}, so this is not a finished artefact"
            raise MuppetError(problem) from error
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise MuppetError(f"{path}: not the manifest of an artefact ({error})") from error
        if not manifest._is_sound():
            raise MuppetError(f"{path}: not the manifest of an artefact")
        return manifest

    def _is_sound(self) -> bool:
        if not all(
            isinstance(table, dict)
            for table in (self.inputs, self.parameters, self.files, self.facts)
        ):
            return False
        texts = (self.name, self.content_hash, self.code_version, *self.inputs.values())
        files = self.files.values()
        return all(isinstance(text, str) for text in texts) and all(
            isinstance(file, dict) and {"bytes", "sha256"} <= set(file) for file in files
        )

    def write(self, folder: Path) -> None:
        """Write ``folder/manifest.json`` durably, with a digest of itself."""
        fields = json.loads(json.dumps(asdict(self)))  # as they will be read
        text = json.dumps({**fields, "digest": digest(fields)}, indent=1, sort_keys=True)
        write_atomic(Path(folder) / MANIFEST, text)

    @property
    def key(self) -> str:
        """The hash of what it is and of everything that it is made from."""
        asked = {"in": self.inputs, "parameters": self.parameters}
        return digest({"name": self.name, "code": self.code_version, **asked})

    @property
    def below(self) -> dict[str, str]:
        """The artefacts among the inputs."""
        return {name: version for name, version in self.inputs.items() if is_artefact(name)}


def verify(folder: Path) -> Manifest:
    """Check every file of an artefact against its manifest; the error names the first bad one."""
    manifest = Manifest.read(folder)
    for name, expected in manifest.files.items():
        path = Path(folder) / name
        if not path.is_file():
            raise MuppetError(f"{folder}: {name} is missing; delete the folder and materialize")
        if describe(path) != expected:
            raise MuppetError(f"{path}: bytes differ from the manifest; delete and materialize")
    return manifest


def digest(value: Any) -> str:
    """A 128-bit hash of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_artefact(name: str) -> bool:
    """Whether an input of that name is an artefact, and not a leaf such as a dataset's commit."""
    return bool(_NAME.fullmatch(name))


def file_names(folder: Path) -> list[str]:
    """Every file below a folder, by its path from there, sorted."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def describe(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    with open(path, "rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
