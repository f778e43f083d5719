"""The whole way, one function per artefact: what the DAG's assets call, and what Python users can.

    source -> shards -> tokens -> mixture -> pre-finetuned model
           -> fine-tuned models -> evaluations -> leaderboard

Each function names its inputs by content hash and asks the store for the result, so calling it
again with the same inputs makes nothing.
"""

from __future__ import annotations

from muppet_dag.pipeline.arm import Arm, arms
from muppet_dag.pipeline.coverage import coverage
from muppet_dag.pipeline.data import (
    OVERLAP,
    last_facts,
    load_task,
    make_base,
    make_mixture,
    make_overlap,
    make_shards,
    make_tokens,
    open_source,
    select,
    shards_code,
    source_of,
    tokens_name,
)
from muppet_dag.pipeline.results import EVALUATION_VERSION, evaluate, make_leaderboard
from muppet_dag.pipeline.train import (
    TRAINING_VERSION,
    finetune,
    head_spec,
    prefinetune,
)

__all__ = [
    "EVALUATION_VERSION",
    "OVERLAP",
    "TRAINING_VERSION",
    "Arm",
    "arms",
    "coverage",
    "evaluate",
    "finetune",
    "head_spec",
    "last_facts",
    "load_task",
    "make_base",
    "make_leaderboard",
    "make_mixture",
    "make_overlap",
    "make_shards",
    "make_tokens",
    "open_source",
    "prefinetune",
    "select",
    "shards_code",
    "source_of",
    "tokens_name",
]
