"""The worker processes of a run on this machine: their ranks, how they are started, watched and ended. No Paddle."""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import config as cfg
from .. import device, files
from ..processes import Stopwatch
from ..runs.protocol import COMPOSED, HEARTBEAT, PEERS, SHARED, TRAINED, VERDICT, WORKER, Arguments, log_of
from .forked import Forked, Template
from .nodes import Node

#: Seconds for the other processes to end by themselves once one has failed: they may report a reason as well.
GRACE_S = 2.0
#: Longest wait between two polls of the processes, and between the request for their stacks and their end.
LOOK_S, STACKS_S = 0.05, 0.3
#: Exit codes of a process that lost the connection to another, and of one that its communication library ended so.
CUT_OFF = (5, -signal.SIGABRT)


@dataclass
class FailedProcess:
    """The process that was the first to fail."""

    rank: int | None
    """Its number; None if unknown."""
    code: int
    """Its exit code; negative: the signal that killed it."""
    stalled: bool = False
    """Whether it was ended because it had stalled."""


class Workers:
    """The worker processes of a node."""

    def __init__(
        self,
        node: Node,
        directory: Path,
        config: cfg.Config,
        attempt: int = 0,
        locks: Sequence[int] = (),
        verdict: str = "",
        composed: str = "",
        worker: Sequence[str] = WORKER,
        template: Template | None = None,
    ) -> None:
        """`verdict`: rank 0's message and exit code if there is nothing to train.

        `composed`: a digest of the config, which must be equal in all commands of a run. `template`: forks the worker
        of a run with one process, if it can.
        """
        self.node, self.directory, self.worker, self.template = node, directory, worker, template
        self.silent = Stopwatch()
        self.trained = False
        self.processes: list[subprocess.Popen[bytes] | Forked] = []
        self.heartbeats: list[int] = []
        master = node.master or f"127.0.0.1:{_free_port()}"
        local_only = 1 < node.world_size == node.processes
        decodes = isinstance(config.data, cfg.Pictures) and config.data.workers > 0
        shared = _shared_file() if local_only else []
        peers = _connected(node.processes) if local_only else [[]] * node.processes
        try:
            for local in range(node.processes):
                own = {} if node.is_given else node.environment(local, master)
                if config.train.device is cfg.Device.cpu:
                    own["PADDLE_DISTRI_BACKEND"] = "gloo"
                own |= {VERDICT: verdict} if verdict else {}
                own |= {COMPOSED: composed} if composed else {}
                own |= {SHARED: str(shared[0])} if shared else {}
                own |= {PEERS: ",".join(str(peer.fileno()) for peer in peers[local])} if local_only else {}
                passed = [*locks, *shared, *(peer.fileno() for peer in peers[local])]
                own |= device.environment(config.train.threads, node.local_world_size, decodes)
                self._start(local, own, attempt, passed)
            # Starting the process that forks them may have taken a while.
            self.silent.begin()
        except OSError:
            self.send(signal.SIGKILL)
            raise
        finally:
            for number in shared:
                os.close(number)
            for peer in itertools.chain.from_iterable(peers):
                peer.close()

    def _start(self, local: int, environment: dict[str, str], attempt: int, passed: Sequence[int]) -> None:
        rank = self.node.first + local
        reads, writes = os.pipe()
        os.set_blocking(reads, False)
        os.set_blocking(writes, False)
        with files.refuse_irregular(log_of(self.directory, rank)).open("ab") as log:
            forked = None
            if self.template:
                descriptors = [1, log.fileno(), writes, *passed]
                forked = self.template.fork(self.directory, attempt, os.environ | environment, descriptors)
                how = "forked" if forked else f"started: {self.template.refused or 'what forks it was killed'}"
                log.write(f"{time.strftime('%F %T')} the worker is {how}\n".encode())
            self.processes.append(
                forked
                or subprocess.Popen(
                    Arguments(self.directory, os.getpid(), attempt).command(self.worker),
                    stdout=log if rank else None,
                    stderr=log,
                    env=os.environ | environment | {HEARTBEAT: str(writes)},
                    pass_fds=[writes, *passed],
                )
            )
        os.close(writes)
        self.heartbeats.append(reads)

    def send(self, number: int) -> None:
        """Send a signal to all that are still running."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def wait(self, timeout_s: float, meanwhile: Callable[[], None] = lambda: None) -> FailedProcess | None:
        """Wait until all have ended; returns the first failure, upon which the others are ended.

        timeout_s: seconds without a finished step, in which this process ran, after which they count as
        stalled. `meanwhile` is called repeatedly; an exception from it ends them.
        """
        try:
            return self._wait(timeout_s, meanwhile)
        except BaseException:
            self.send(signal.SIGKILL)
            raise
        finally:
            for heartbeat in self.heartbeats:
                os.close(heartbeat)

    def _wait(self, timeout_s: float, meanwhile: Callable[[], None]) -> FailedProcess | None:
        failed: list[FailedProcess] = []
        seen: set[int] = set()
        since = Stopwatch()
        killed = False
        while True:
            for local, process in enumerate(self.processes):
                if local not in seen and process.poll() is not None:
                    seen.add(local)
                    if process.returncode and not killed:
                        if not failed:
                            since.begin()
                        failed.append(FailedProcess(self.node.first + local, process.returncode))
            if len(seen) == len(self.processes):
                break
            if since.seconds() > GRACE_S and failed and not killed:
                if all(one.code in CUT_OFF for one in failed):
                    # A process that is still running is the one that the others waited for.
                    return self._end_stalled()
                self.send(signal.SIGKILL)
                killed = True
            elif self.silent.seconds() > timeout_s and not failed:
                return self._end_stalled()
            meanwhile()
            self._look()
        # A process that lost its connection is not the one that broke it.
        return min(failed, key=lambda one: one.code in CUT_OFF, default=None)

    def _look(self) -> None:
        """Wait for a heartbeat or an end."""
        # A pipe is closed when its process ends; workers of its own that outlive it may hold it open for a moment.
        ready, _, _ = select.select(self.heartbeats, [], [], LOOK_S)
        for heartbeat in set(ready) & set(self.heartbeats):
            with contextlib.suppress(BlockingIOError):
                beats = os.read(heartbeat, 65536)
                if not beats:
                    # Its process has ended.
                    self.heartbeats.remove(heartbeat)
                    os.close(heartbeat)
                    continue
                self.silent.begin()
                self.trained = self.trained or TRAINED in beats

    def _end_stalled(self) -> FailedProcess:
        """Have every process log its stack, and end it."""
        alive = [local for local, process in enumerate(self.processes) if process.poll() is None]
        stopped = [local for local in alive if _is_stopped(self.processes[local].pid)]
        self.send(signal.SIGUSR1)
        time.sleep(STACKS_S)
        self.send(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        stalled = stopped or (alive if len(alive) == 1 else [])
        rank = self.node.first + stalled[0] if stalled else None
        return FailedProcess(rank, -signal.SIGKILL, stalled=True)


def _is_stopped(process: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state in "Tt"
    return False


def _shared_file() -> list[int]:
    """A file in memory, freed with the last process that has it open; none if the system lacks such files."""
    with contextlib.suppress(OSError, AttributeError):
        return [os.memfd_create("runner")]
    return []


def _connected(processes: int) -> list[list[socket.socket]]:
    """For each process, its ends of the connections between the first process and each of the others."""
    pairs = [socket.socketpair() for _ in range(processes - 1)]
    return [[first for first, _ in pairs], *([other] for _, other in pairs)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
