"""Massive multi-task pre-finetuning (Muppet, arXiv 2101.11038) as a system that people can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muppet_dag.pipeline import load_task

__all__ = ["load_task"]


def __getattr__(name: str) -> Any:
    """``muppet_dag.load_task`` without paying for the pipeline at import."""
    if name == "load_task":
        from muppet_dag.pipeline import load_task

        return load_task
    raise AttributeError(name)
