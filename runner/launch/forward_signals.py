"""Forwards SIGINT, SIGTERM and SIGHUP from a command to the processes of its run and the jobs of its sweep."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import FrameType

from .. import processes
from ..runs import sweep
from . import workers

#: Seconds after the first signal from which a second one kills: before that, it is the same request sent twice.
REPEAT_S = 2.0
#: Seconds between two checks of whether a sweep asks its jobs to end.
LOOK_S = 0.5


class ToWorkers:
    """Within the context, signals that ask to stop go to the workers: the first lets them end a step, a second kills.

    A sweep that asks its jobs to end counts as a first signal. The signal by which submitit announces the end of a
    job's time counts as SIGTERM; once the workers have ended, submitit handles it and requeues the job.
    """

    def __init__(self, directory: Path) -> None:
        self.first = 0
        self.since = processes.Stopwatch()
        self.workers: workers.Workers | None = None
        self._sweep = directory.parent if sweep.is_swept(directory) else None
        self._next_look = time.monotonic() + LOOK_S
        self._announced = 0

    def __enter__(self) -> ToWorkers:
        self._before = {number: signal.signal(number, self._forward) for number in processes.stopping()}
        announcing = signal.getsignal(signal.SIGUSR2)
        if callable(announcing):
            self._before[signal.SIGUSR2] = announcing
            signal.signal(signal.SIGUSR2, self._announce)
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._announced:
            os.kill(os.getpid(), self._announced)

    def look(self) -> None:
        """Update the time since the first signal, and whether the sweep asks the run to end. To be called
        repeatedly."""
        self.since.seconds()
        if self._sweep and not self.first and time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            if number := sweep.asked_to_stop(self._sweep):
                self._forward(number, None)

    def _announce(self, number: int, _frame: FrameType | None) -> None:
        self._announced = number
        self._forward(signal.SIGTERM, None)

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        # A launcher, or a terminal and a launcher, may send the same request several times within a moment.
        again = bool(self.first) and self.since.seconds() > REPEAT_S
        if not self.first:
            self.first = number
            self.since.begin()
        if self.workers is not None:
            # Workers ignore SIGHUP.
            self.workers.send(signal.SIGKILL if again else signal.SIGTERM if number == signal.SIGHUP else number)


class ToJobs:
    """Within the context, signals ask the jobs of a sweep to end; a second one interrupts their command."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._since = 0.0

    def __enter__(self) -> ToJobs:
        self._before = {number: signal.signal(number, self._ask) for number in processes.stopping()}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if not self._since:
            self._since = time.monotonic()
            sweep.ask_to_stop(self._directory, number)
        elif time.monotonic() > self._since + REPEAT_S:
            raise KeyboardInterrupt
