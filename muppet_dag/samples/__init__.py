"""A small made-up data set of every task, for the demo run and for tests without a network."""

from __future__ import annotations

from muppet_dag.samples.lexicon import WORDS
from muppet_dag.samples.make import SAMPLES, make, version

__all__ = ["SAMPLES", "WORDS", "make", "version"]
