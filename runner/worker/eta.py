"""Estimated time until training ends, validations and checkpoints included."""

from __future__ import annotations

import time
from collections.abc import Callable

#: As many steps as the guess counts beside those that were measured alone, since few of these are chance.
TRUSTED_STEPS = 10


class TimeLeft:
    """Estimates the remaining time from the steps so far.

    The first step is left out: it compiles, allocates and fills caches. Intervals in which nothing but steps happened
    give the time of a step; all other time is divided among the validations.
    """

    def __init__(
        self, steps: int, evaluations: int, guess: float = 0, done: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`steps` of the whole run, of which `done` were done before; `evaluations` that are still to come.

        `guess`: the cost of one in steps, until one was measured.
        """
        self.steps, self.evaluations, self.guess, self.clock = steps, evaluations, guess, clock
        self.step, self.now, self.began = done, clock(), clock()
        self.first: tuple[int, float] | None = None
        self.plain_steps, self.plain_seconds, self.evaluated = 0, 0.0, 0
        self._disturbed = True

    def stepped(self) -> None:
        """A step is done; only the first one matters, which starts the measurement unless `trained` did so already."""
        if self.first is None:
            self._begin(self.step + 1)

    def trained(self, step: int) -> None:
        """`step` steps of the run are done."""
        if self.first is None:
            self._begin(step)
            return
        now = self.clock()
        if not self._disturbed:
            self.plain_steps += step - self.step
            self.plain_seconds += now - self.now
        self.step, self.now, self._disturbed = step, now, False

    def _begin(self, step: int) -> None:
        self.step, self.now, self._disturbed = step, self.clock(), False
        self.first = self.step, self.now

    def validated(self, step: int) -> None:
        """A validation has ended, after `step` steps of the run."""
        self.step, self.now, self._disturbed = step, self.clock(), True
        self.evaluations -= 1
        self.evaluated += 1

    def seconds(self) -> float | None:
        """Seconds until training ends; None before there is an estimate."""
        if self.first is None:
            return None
        first_step, since = self.first
        steps, elapsed = self.step - first_step, self.now - since
        if steps <= 0:
            # Only the first step is done, which is not representative.
            steps, elapsed = 1, since - self.began
        left = self.steps - self.step
        guessed = elapsed / (steps + self.guess * self.evaluated)
        a_step = (self.plain_seconds + TRUSTED_STEPS * guessed) / (self.plain_steps + TRUSTED_STEPS)
        # Never more than all time divided by the steps, which has the validations in it.
        a_step = min(a_step, elapsed / steps)
        beyond = elapsed - steps * a_step
        a_validation = beyond / self.evaluated if self.evaluated else self.guess * a_step
        estimate = left * a_step + max(0, self.evaluations) * a_validation
        return max(0.0, estimate - (self.clock() - self.now))
