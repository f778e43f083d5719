"""Who may know whom, and what a process pays for at import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded(module: str, heavy: set[str]) -> set[str]:
    """Those of ``heavy`` that importing ``module`` in a fresh interpreter brings along."""
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return heavy & set(done.stdout.split())


def test_imports_keep_the_contracts():
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_definitions_load_nothing_heavy():
    heavy = {"torch", "transformers", "datasets", "tokenizers", "wandb", "duckdb"}
    heavy |= {"pandas", "matplotlib", "sklearn", "scipy", "huggingface_hub"}
    assert loaded("deployments.local.definitions", heavy) == set()


@pytest.mark.parametrize("module", ["muppet_dag.training.__main__", "muppet_dag.training.launch"])
def test_a_training_process_needs_nothing_of_the_dag(module):
    absent = {"dagster", "duckdb", "datasets", "pydantic", "wandb", "typer", "rich"}
    assert loaded(module, absent) == set()


def test_the_command_line_starts_with_the_library_unloaded():
    heavy = {"torch", "pyarrow", "numpy", "duckdb", "pydantic", "dagster"}
    assert loaded("muppet_dag.cli", heavy) == set()
