"""How long the code location takes to import: ``python -m benchmarks.startup``.

Dagster imports it anew in every process it starts, so that each step waits this long.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

from benchmarks.table import show

MODULE, RUNS = "deployments.local.definitions", 5
#: Libraries that a step should pay for only when it uses them.
HEAVY = (
    "torch", "transformers", "datasets", "tokenizers", "wandb", "duckdb",
    "pandas", "matplotlib", "sklearn", "scipy", "huggingface_hub",
)  # fmt: skip

_CODE = f"""
import json, sys, time
start = time.perf_counter()
import {{module}}
seconds = time.perf_counter() - start
print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))
"""


def main() -> None:
    """Import in fresh interpreters; print a table and a JSON line."""
    dagster = [fresh("dagster")[0] for _ in range(RUNS)]
    runs = [fresh(MODULE) for _ in range(RUNS)]
    seconds, heavy = [run[0] for run in runs], sorted({name for run in runs for name in run[1]})
    show(
        ("", "runs", "min s", "median s"),
        [
            (name, RUNS, f"{min(taken):.2f}", f"{statistics.median(taken):.2f}")
            for name, taken in ((MODULE, seconds), ("of which dagster alone", dagster))
        ],
    )
    figures = {"import_seconds": round(statistics.median(seconds), 3), "heavy_modules": heavy}
    print(json.dumps(figures))


def fresh(module: str) -> tuple[float, list[str]]:
    """Seconds that one import takes in a new interpreter, and the heavy libraries it loads."""
    command = [sys.executable, "-c", _CODE.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    return seconds, heavy


if __name__ == "__main__":
    main()
