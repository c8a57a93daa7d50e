"""State of a user's command: trackers, received signals, failed runs."""

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
    """Created once in each process that trains runs, and passed down."""

    train_inline: Callable[[Path], int]
    """Trains a prepared run directory in this process (`launch.inline`); returns its exit code."""
    worker: Sequence[str] = tuple(WORKER)
    """The command of a worker process, without arguments."""
    template: Template = field(default_factory=Template)
    """The template that forks the workers of a sweep."""
    mirrors: Mirrors = field(default_factory=Mirrors)
    """Delivers the runs of this command. A sweep does not wait for that between its jobs."""
    signals_received: list[int] = field(default_factory=list)
    """Signals that asked this command to stop, including those after the last step of a run."""
    directory: Path | None = None
    """The folder of its run, or of its sweep."""
    failures: list[UserError] = field(default_factory=list)
    """Failures of runs; as exceptions they would make Hydra print a line and end a sweep."""

    def __reduce__(self) -> tuple[Any, ...]:
        """A launcher's process gets a new one: it delivers, and fails, by itself."""
        return Command, (self.train_inline, self.worker)
