"""The time budget of a run with `train.max_minutes`: how much of it is spent, and how many steps it allows."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """A time budget, and the number of optimizer steps that fit into it."""

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
        """Seconds set aside for the last validation: what the one before it took."""
        self.began = now()

    def start(self) -> None:
        """Training begins, or resumes."""
        self.began = self.now()

    @property
    def spent(self) -> float:
        """Seconds of the budget that are spent."""
        return self.earlier + self.now() - self.began

    def steps(self, step: int, spent: float) -> int:
        """Steps of the whole run if its first `step` (at least 1) took `spent` seconds; `step` itself when the time is
        up.

        The fraction of steps done equals the fraction of time spent, so schedules that follow steps also follow the
        clock.
        """
        available = max(self.budget - self.reserve, 1e-9)
        left = spent < available
        steps = max(step + 1, round(step * available / max(spent, 1e-9))) if left else step
        return min(steps, self.most) if self.most else steps
