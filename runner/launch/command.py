"""One command of a user: what it delivers to trackers, which signals it got and which of its runs failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runs.protocol import WORKER
from ..tracking.process import Mirrors
from .forked import Template


@dataclass
class Command:
    """Made once in each process that is to train runs, and handed down."""

    train_inline: Callable[[Path], int]
    """Trains a prepared run directory in this very process (`launch.inline`); returns its exit code."""
    worker: Sequence[str] = tuple(WORKER)
    """What starts a worker process, before its arguments."""
    template: Template = field(default_factory=Template)
    """What forks the workers of a sweep."""
    mirrors: Mirrors = field(default_factory=Mirrors)
    """Delivers the runs of this command. A sweep does not wait for that between its jobs."""
    signals_received: list[int] = field(default_factory=list)
    """Signals that asked this command to stop, also those that came when a run was as good as complete."""
    directory: Path | None = None
    """The folder of its run, or of its sweep."""
    failures: list[UserError] = field(default_factory=list)
    """Why runs failed; for exceptions Hydra would print a line of its own, and end a sweep."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A process that a launcher starts has a new one: it delivers, and fails, by itself."""
        return Command, (self.train_inline, self.worker)
