"""``make ui``: Dagster's UI, its daemon and the code location, until Ctrl-C or SIGTERM."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import dagster as dg
import typer

from deployments.local.home import prepare
from deployments.local.runs import end_dead_runs
from deployments.local.settings import Settings
from muppet_dag import disk
from muppet_dag.errors import BadConfig, MuppetError

#: Seconds that Dagster gets to end its processes, before they are killed.
_GRACE = 20.0


def main(
    port: int = typer.Option(3000, envvar="PORT", help="Where the UI is served"),
    host: str = typer.Option("127.0.0.1", help="0.0.0.0: also to other machines"),
) -> None:
    """Serve the UI; the address is printed at once, and again when the pages are there."""
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    try:
        home = prepare(Settings.read())
        _require_free(host, port)
        print(f"Dagster's UI will be at {address}; it loads for a minute or less.", flush=True)
        opening = disk.plain_errors(home, "opening Dagster's books")
        with opening, dg.DagsterInstance.get() as instance:
            end_dead_runs(instance)
    except MuppetError as error:
        sys.exit(str(error))
    sys.exit(_serve(address, host, port, home))


def _serve(address: str, host: str, port: int, home: Path) -> int:
    """Start ``dg dev`` in a process group of its own, and end the whole group with this process."""
    started = time.monotonic()
    command = [
        str(Path(sys.executable).with_name("dg")),
        "dev",
        "--host",
        host,
        "--port",
        str(port),
    ]
    # dg looks for the environment that is active, and for dagster on the path.
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "VIRTUAL_ENV": sys.prefix,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        while server.poll() is None and not _answers(address):
            time.sleep(0.5)
        if server.poll() is None:
            waited = time.monotonic() - started
            print(f"Ready after {waited:.0f} s: {address} (Ctrl-C ends it)", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        _end(server)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/server_info", timeout=2):
            return True
    except OSError:
        return False


def _require_free(host: str, port: int) -> None:
    """BadConfig if the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadConfig(
                f"PORT={port}: {error.strerror}. Another UI may run there; choose another one "
                "(make ui PORT=3001)"
            ) from error


def _end(server: subprocess.Popen) -> None:
    """Ask the server's whole group to stop as Ctrl-C does; what is left after a while is killed.

    Runs that train leave a checkpoint. They are processes of the code server, in the same group.
    """
    for number, patience in ((signal.SIGINT, _GRACE), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and _group_lives(server):
            time.sleep(0.2)


def _group_lives(server: subprocess.Popen) -> bool:
    server.poll()  # reaps it: a zombie would count as alive
    try:
        os.killpg(server.pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
