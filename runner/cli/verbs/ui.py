"""MLflow's user interface on the runs of a store."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

from ... import child, processes
from ... import config as cfg
from ...config.addresses import require_store, sqlite_path
from ...config.keys import expanded
from ...errors import ConfigError
from ...runs.journal import SWEEP
from ...tracking import embedded, stores, urls
from .arguments import bounded

#: Seconds that a server gets to exit.
END_S = 10.0


def main(arguments: list[str]) -> int:
    """Serve the store on 127.0.0.1 until Ctrl-C: `ui [URI] [--port N]`."""
    import argparse

    parser = argparse.ArgumentParser(prog="runner ui", description="Open MLflow on the runs of a store.")
    parser.add_argument(
        "uri", nargs="?", type=expanded, default=cfg.Mlflow.uri, help="tracking URI of the store (%(default)s)"
    )
    parser.add_argument("--port", type=bounded(int, 1, 65_535), default=5000, metavar="N")
    options = parser.parse_args(arguments)
    require_store(options.uri, "runner ui ")
    if options.uri.startswith("http"):
        print(f"The runs are on a server: open {options.uri}")
        return 0
    path = sqlite_path(options.uri)
    if path is not None and not path.exists():
        raise ConfigError(
            f"{path} does not exist: no run was tracked here yet. Train one first, or name another store."
        )
    if path is not None:
        embedded.follow_move(path)
    _reserve(options.port)
    address = f"http://127.0.0.1:{options.port}"
    print(f"MLflow   {address} (Ctrl-C ends it)", flush=True)
    if newest := _last_sweep(options.uri):
        print(f"Sweep    {os.path.relpath(newest)}")
        for name, url in urls.of_sweep(newest, address).items():
            print(f"{name:8} {url}", flush=True)
        for error in urls.tracked_jobs(newest)[1]:
            print(f"DAMAGED  {error}", flush=True)
    # Without its job runner MLflow needs 2 processes instead of 10.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # Its children must not import from the working directory either (Python 3.11 and later).
    os.environ["PYTHONSAFEPATH"] = "1"
    command = child.command("mlflow", "server", "--backend-store-uri", options.uri)
    return _serve([*command, "--host", "127.0.0.1", "--port", str(options.port)])


def _serve(command: list[str]) -> int:
    """Run a server until it or this process is asked to end, and stop all its processes. Returns the exit code."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in processes.stopping()}
    # MLflow's own command can miss a signal while it starts, and its workers are in its session.
    server = subprocess.Popen(command, start_new_session=True)
    try:
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, number)
            processes.wait(server, END_S)
        for number, handler in before.items():
            signal.signal(number, handler)


def _reserve(port: int) -> None:
    """Reserve a port for the server that this process starts. Errors: ConfigError if it is taken."""
    taken = ConfigError(f"Port {port} is taken. Choose another: runner ui --port {port + 1}")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise taken
    if sys.platform != "linux":
        return
    # A server takes some seconds to listen. Until then, and as long as it lives, it has this name, which is no file.
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0runner-ui-{port}")
    except OSError as error:
        raise taken from error
    name.detach()


def _last_sweep(uri: str) -> Path | None:
    """The folder of the last sweep next to an embedded store whose runs are in it, or None."""
    path = sqlite_path(uri)
    if path is None:
        return None
    sweeps: list[tuple[float, Path]] = []
    for place, _, names in os.walk(path.parent):
        with contextlib.suppress(OSError):
            if SWEEP in names:
                sweeps.append(((Path(place) / SWEEP).stat().st_mtime, Path(place)))
    for _, folder in sorted(sweeps, reverse=True):
        with contextlib.suppress(OSError):
            jobs = urls.tracked_jobs(folder)[0]
            if any(stores.resolved(str(one.get("uri"))) == stores.resolved(uri) for one in jobs):
                return folder
    return None
