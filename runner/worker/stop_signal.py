"""SIGINT and SIGTERM in a training process: it finishes the step, writes a checkpoint and ends."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived while no step was running that has to be finished."""


class StopSignal:
    """Within the context, SIGINT and SIGTERM interrupt at once, or after the current step if one is running."""

    def __init__(self) -> None:
        self.received = 0
        self.waits = False

    def __enter__(self) -> StopSignal:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """The exit code of a stopped process; if another process of the run got the signal, that of SIGTERM."""
        return 128 + (self.received or signal.SIGTERM)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = self.received or number
        if not self.waits:
            raise Interrupted

    @contextlib.contextmanager
    def after_the_step(self) -> Iterator[None]:
        """Within the context a signal does not interrupt: the loop asks after each step whether one came."""
        self.waits = True
        for number in self._before:
            # Paddle's store takes an interrupted call for a broken connection.
            signal.siginterrupt(number, False)
        yield
        for number in self._before:
            signal.siginterrupt(number, True)
        self.waits = False
