"""Several processes on this machine that form one group, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

PATIENCE = timedelta(minutes=2)


def gang(
    workers: int, work: Callable[..., Any], *given: Any,
    patience: timedelta = PATIENCE, wait_s: float = 240,
) -> list[int]:  # fmt: skip
    """Run ``work(group, *given)`` in so many processes; returns their exit codes.

    ``work`` is a function of a module that they can import, ``patience`` the group's timeout.
    What still runs after ``wait_s`` is ended.
    """
    spawn, port = multiprocessing.get_context("spawn"), _free_port()
    started = [
        spawn.Process(target=_member, args=(rank, workers, port, patience, work, given))
        for rank in range(workers)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(wait_s)
        process.kill()
        process.join()
    return [process.exitcode for process in started]


def _member(
    rank: int, world: int, port: int, patience: timedelta, work: Callable[..., Any], given: Any
) -> None:
    import torch

    from muppet_dag.training.group import Group

    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank),
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    torch.set_num_threads(1)
    group = Group.start(patience)
    work(group, *given)
    group.barrier()
    group.close()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
