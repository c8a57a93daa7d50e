"""Workers forked from a process that has already imported Paddle: the command's side of `runs/forking.py`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import child, device, processes
from .. import config as cfg
from ..runs import forking, sweep
from ..runs.protocol import COMPOSED

#: The command of the template, without its arguments: the ids of this process and of a socket.
TEMPLATE = child.command("runner.worker.template")
#: Seconds for the imports, for the template to report that its child was killed, and to exit.
IMPORT_S, ANSWER_S, LEAVE_S = 120.0, 5.0, 1.0


def refusal(config: cfg.Config, directory: Path, world_size: int, attempt: int) -> str:
    """Why the worker of a run is started, not forked; empty if it may be forked.

    `world_size`: processes of the run; `attempt`: above 0 if a worker was lost, perhaps because it was forked.
    """
    if not sweep.is_swept(directory) or device.AT_ONCE in os.environ:
        return "it is not a job of a sweep whose jobs this process runs one after another"
    if not config.sweep.fork_workers:
        return "sweep.fork_workers=false"
    if reason := processes.cannot_fork_workers():
        return reason
    if world_size > 1 or attempt:
        return "it has several processes" if world_size > 1 else "one was lost before"
    if config.train.device is cfg.Device.gpu or config.debug.profile:
        return "train.device=gpu" if config.train.device is cfg.Device.gpu else "debug.profile=true"
    return ""


class Forked:
    """A forked worker, with the interface of `subprocess.Popen`."""

    def __init__(self, template: Template, pid: int) -> None:
        """Errors: OSError if this system lacks process descriptors (pidfd)."""
        self.pid = pid
        self.returncode: int | None = None
        self._template = template
        # Once it has ended, its process id may be reused.
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._look(0)

    def wait(self) -> int:
        """Its exit code, once it has ended or was killed."""
        if (code := self._look(ANSWER_S)) is None:
            # The template has stalled.
            self._template.close()
            code = self._look(0)
        assert code is not None
        return code

    def _look(self, seconds: float) -> int | None:
        if self.returncode is None and (code := self._template.ended(seconds)) is not None:
            self.returncode = code
            # If the template was killed, the kernel kills its child, which may take a moment.
            select.select([self._descriptor], [], [], ANSWER_S)
            os.close(self._descriptor)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal. Errors: ProcessLookupError."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, number)


@dataclass
class Template:
    """The process that forks the workers of a command, one at a time; started with the first of them."""

    command: Sequence[str] = field(default_factory=lambda: list(TEMPLATE))
    refused: str = ""
    """Why it cannot fork workers; empty while it can."""
    process: subprocess.Popen[bytes] | None = None
    _channel: socket.socket | None = None
    _surroundings: Any = None
    """Environment and working directory at its start: libraries read them when loaded, before a fork."""

    def fork(self, directory: Path, attempt: int, environment: dict[str, str], passed: Sequence[int]) -> Forked | None:
        """A worker with an environment and descriptors: standard output and error, heartbeat, and others to keep open.

        None if it has to be started; `refused` says why.
        """
        surroundings = {name: value for name, value in environment.items() if name != COMPOSED}, os.getcwd()
        if self.refused:
            return None
        if self.process is None or self.process.poll() is not None or surroundings != self._surroundings:
            self.close()
            self._start(environment)
            self._surroundings = surroundings
            if self.refused:
                return None
        assert self._channel
        request = forking.Request(str(directory), attempt, environment, forking.limits(), os.getcwd())
        try:
            socket.send_fds(self._channel, [json.dumps(asdict(request)).encode()], [0, *passed])
        except OSError as error:
            if self.process and self.process.poll() is None:
                self.refused = f"the process that forks cannot be reached: {error.strerror}"
            self.close()
            return None
        answer = self._answer(IMPORT_S)
        while answer and "started" not in answer:
            # The end of an earlier child that nobody waited for.
            answer = self._answer(IMPORT_S)
        try:
            if answer:
                return Forked(self, answer["started"])
        except OSError as error:
            self.refused = f"it could not be watched: {error.strerror}"
        self.close()
        return None

    def _start(self, environment: dict[str, str]) -> None:
        """Start the template and wait until it is ready; else `refused` says why it is not."""
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            # Output of the imports belongs to no job.
            self.process = subprocess.Popen(
                [*self.command, str(os.getpid()), str(other.fileno())],
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[other.fileno()],
            )
        self._channel = own
        answer = self._answer(IMPORT_S)
        if not answer or "refused" in answer:
            self.refused = (answer or {}).get("refused", "the process that forks was not ready in time")
            self.close()

    def ended(self, seconds: float) -> int | None:
        """The exit code of its child; None if that is still running after some seconds."""
        if self._channel is None:
            return -signal.SIGKILL
        answer = self._answer(seconds)
        if answer:
            return int(answer["ended"])
        return -signal.SIGKILL if self._channel is None else None

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """Its message within some seconds; None, and the socket is closed, if it sends none or is gone."""
        assert self._channel
        self._channel.settimeout(seconds)
        try:
            content = self._channel.recv(forking.MESSAGE)
        except (BlockingIOError, TimeoutError):
            return None
        except ConnectionError:
            content = b""
        if not content:
            self.close()
            return None
        answer: dict[str, Any] = json.loads(content)
        return answer

    def close(self) -> None:
        """End it, and its child if it has one."""
        if self.process is None or self._channel is None:
            return
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LEAVE_S)
        self.process.kill()
        self.process.wait()
        self.process = self._channel = None
