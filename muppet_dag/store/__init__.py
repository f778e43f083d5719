"""Artefacts by content hash: how they are made once, found again, and traced to their inputs."""

from muppet_dag.store.lineage import lineage
from muppet_dag.store.manifest import MANIFEST, Manifest, digest, verify
from muppet_dag.store.store import Artefact, Store

__all__ = ["MANIFEST", "Artefact", "Manifest", "Store", "digest", "lineage", "verify"]
