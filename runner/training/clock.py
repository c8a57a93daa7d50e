"""How much of a run's time is spent, where it ends by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A budget of time, and how many optimizer steps that will be."""

    def __init__(
        self,
        minutes: float,
        earlier: float = 0.0,
        most: int | None = None,
        now: Callable[[], float] = time.monotonic,
        reserve: float = 0.0,
    ) -> None:
        """`earlier`: seconds spent before a resumption; `most`: optimizer steps at which the run ends in any case."""
        self.budget, self.earlier, self.most, self.now = 60 * minutes, earlier, most, now
        self.reserve = reserve
        """Seconds that the last validation will take: what the one before it took."""
        self.began = now()

    def start(self) -> None:
        """Training begins, or goes on."""
        self.began = self.now()

    @property
    def spent(self) -> float:
        """Seconds of the budget that are gone."""
        return self.earlier + self.now() - self.began

    def steps(self, step: int, spent: float) -> int:
        """Steps of the whole run, of which `step`, one or more, took so many seconds; `step` when the time is up.

        The part of the steps that is done is the part of the time that is gone, so that what follows the steps follows
        the clock.
        """
        available = max(self.budget - self.reserve, 1e-9)
        left = spent < available
        steps = max(step + 1, round(step * available / max(spent, 1e-9))) if left else step
        return min(steps, self.most) if self.most else steps
