"""What a function needs when it has a process to itself."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


def fresh(function: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    """Call a function in a new process: what it returns, and the process's peak memory in MB.

    A new process inherits the peak of the one that starts it, so nothing large may run in that.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measured, function, arguments).result()


def _measured(function: Callable[..., Any], arguments: tuple) -> tuple[Any, int]:
    result = function(*arguments)
    unit = 1 << (20 if sys.platform == "darwin" else 10)  # bytes there, else kilobytes
    return result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit
