"""Programs on a disk of their own that is as small as a test wants: a tmpfs that only they see.

Also a module for these programs: ``resize`` leaves so much room on the disk they run on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_NAMESPACE = ["unshare", "--map-root-user", "--mount"]
LARGE = 256 << 20


def run(
    program: str,
    disk: Path,
    *arguments: object,
    size: int = LARGE,
    options: str = "rw",
    **variables: str,
) -> str:
    """What a program prints that runs on a new disk of ``size`` bytes, mounted at ``disk``, its
    first argument. Skips where nothing can be mounted; fails if the program does."""
    disk.mkdir(exist_ok=True)
    mount = 'mount -t tmpfs -o "size=$1,$2" tmpfs "$3" && shift 2 && exec "$0" -c "$PROGRAM" "$@"'
    command = [
        "sh",
        "-c",
        mount,
        sys.executable,
        str(size),
        options,
        str(disk),
        *map(str, arguments),
    ]
    try:
        subprocess.run([*_NAMESPACE, *command[:2], "mount -t tmpfs tmpfs /mnt"], check=True,
                       capture_output=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing can be mounted here ({error})")
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    environment = {**os.environ, "PYTHONPATH": path, "PROGRAM": program, **variables}
    done = subprocess.run([*_NAMESPACE, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def resize(disk: Path, room: int = LARGE) -> None:
    """Let so many bytes be free, rounded up to whole pages."""
    at = os.statvfs(disk)
    size = (at.f_blocks - at.f_bfree) * at.f_frsize + room
    options = f"remount,size={max(size, 4096)}"
    subprocess.run(["mount", "-o", options, str(disk)], check=True)
