"""Forked workers: a template process imports what every worker needs, and forks a child for each job.

A job of a sweep then costs no imports. Each child equals a freshly started worker in environment, streams, limits and
signals. It ends alone, or with this process, which ends with the command. `launch/forked.py` is the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .. import processes
from .protocol import HEARTBEAT, Arguments

#: Most bytes of a message, which contains an environment, and most descriptors with it.
MESSAGE, DESCRIPTORS = 1 << 20, 64
#: Signals that only the children handle.
LEFT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
THREADS = Path("/proc/self/task")


@dataclass
class Request:
    """A request for a child. It comes with descriptors: of its streams, of its heartbeat, and others to keep open."""

    directory: str
    """The run directory."""
    attempt: int
    environment: dict[str, str]
    limits: dict[str, tuple[int, int]]
    """Limits of resources, by their numbers."""
    folder: str
    """The working directory."""


def limits() -> dict[str, tuple[int, int]]:
    """The limits of this process."""
    numbers = {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
    return {str(number): resource.getrlimit(number) for number in sorted(numbers)}


def serve(channel: socket.socket, entry: Callable[[], None], refusal: str = "") -> None:
    """Fork a child for each request, which calls `entry`, until the other end of the channel is closed.

    `refusal`: a reason why no child could work. Every answer is one JSON object: `ready`, or `refused` with a reason;
    `started` with a process id; `ended` with an exit code, negative for a signal.
    """
    for number in LEFT:
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        # Otherwise every child would write what the imports left in the buffer.
        with contextlib.suppress(OSError):
            stream.flush()
    if reason := refusal or _refusal():
        _say(channel, refused=reason)
        return
    _say(channel, ready=True)
    parent, child = os.getpid(), 0
    while True:
        content, descriptors, _, _ = socket.recv_fds(channel, MESSAGE, DESCRIPTORS)
        if child:
            # Not earlier: its process id stays its own until the other end knows that it has ended.
            os.waitpid(child, 0)
        if not content:
            return
        # Signals are blocked until the child has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, LEFT)
        child = os.fork()
        if not child:
            channel.close()
            _become(Request(**json.loads(content)), descriptors, parent)
            _run(entry)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT)
        for descriptor in descriptors:
            os.close(descriptor)
        _say(channel, started=child)
        end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert end
        _say(channel, ended=end.si_status if end.si_code == os.CLD_EXITED else -end.si_status)


def _refusal() -> str:
    """Why this process must not fork, else empty: a lock that another thread holds would stay locked in a child."""
    if not THREADS.is_dir():
        return "its threads cannot be counted"
    # OpenBLAS ends its threads before a fork, and restarts them when needed.
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    names = [(task / "comm").read_text(encoding="utf-8").strip() for task in THREADS.iterdir()]
    return "" if len(names) == 1 else f"it has {len(names)} threads: {', '.join(sorted(set(names)))}"


def _say(channel: socket.socket, **answer: Any) -> None:
    channel.send(json.dumps(answer).encode())


def _become(request: Request, descriptors: list[int], parent: int) -> None:
    """Set up the child like a fresh worker: streams, environment, limits, working directory, signals."""
    heartbeat = descriptors[3]
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.environment | {HEARTBEAT: str(heartbeat)})
    for name, limit in request.limits.items():
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(int(name), limit)
    os.chdir(request.folder)
    sys.argv[1:] = Arguments(Path(request.directory), parent, request.attempt).command([])
    for number in LEFT:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT)


def _run(entry: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        entry()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        processes.exit_fast(code)
