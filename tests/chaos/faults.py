"""What can happen to a run. Each fault is a function of the run it happens to and a random generator."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.e2e.processes import gone, workers

#: A fault returns the exit codes that may follow, or nothing where the run is to go on as if nothing had happened.
Fault = Callable[[Any, random.Random], "set[int] | None"]
LOST, STOPPED, UNWRITABLE, DONE = 5, 143, 3, 0


def signalled(process: int, number: int) -> None:
    """Send a signal to a process that may have ended a moment ago."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def kill_worker(run: Any, generator: random.Random) -> set[int]:
    """SIGKILL to a training process, as by the kernel when memory runs out."""
    if ranks := workers(run.process):
        signalled(generator.choice(list(ranks.values())), signal.SIGKILL)
    return {LOST}


def kill_command(run: Any, generator: random.Random) -> set[int]:
    """SIGKILL to the command."""
    run.process.kill()
    return {-signal.SIGKILL}


def terminate_command(run: Any, generator: random.Random) -> set[int]:
    """SIGTERM to the command."""
    run.process.terminate()
    return {STOPPED, -signal.SIGTERM}


def terminate_worker(run: Any, generator: random.Random) -> set[int]:
    """SIGTERM to one training process."""
    if ranks := workers(run.process):
        signalled(generator.choice(list(ranks.values())), signal.SIGTERM)
    return {STOPPED}


def freeze_worker(run: Any, generator: random.Random) -> set[int]:
    """SIGSTOP to a training process, for good."""
    if ranks := workers(run.process):
        signalled(generator.choice(list(ranks.values())), signal.SIGSTOP)
    return {LOST}


def pause(run: Any, generator: random.Random) -> None:
    """SIGSTOP to any process of the run, and SIGCONT a moment later."""
    process = generator.choice(sorted(run.processes()))
    signalled(process, signal.SIGSTOP)
    time.sleep(generator.uniform(0.1, 1.5))
    signalled(process, signal.SIGCONT)


def server_outage(run: Any, generator: random.Random) -> None:
    """The tracking server is killed and starts again later."""
    run.server.kill()
    time.sleep(generator.uniform(0, 3))
    run.server.start(wait=False)


def full_disk(run: Any, generator: random.Random) -> set[int]:
    """No room is left but for a few bytes."""
    run.fill_disk(generator.choice([0, 4096, 100_000]))
    return {UNWRITABLE}


def power_cut(run: Any, generator: random.Random) -> set[int]:
    """Everything is killed at once, and files lack an end that had not been brought to the disk."""
    processes = run.processes()
    for process in processes:
        signalled(process, signal.SIGKILL)
    assert gone(processes), "SIGKILL ends everything"
    run.cut_files(generator)
    return {-signal.SIGKILL}


FAULTS: tuple[Fault, ...] = (
    kill_worker, kill_command, terminate_command, terminate_worker, freeze_worker, pause, server_outage, full_disk,
    power_cut,
)  # fmt: skip
