"""User-defined trackers: objects whose `replay` receives new events of a run's journal."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import store
from ..config.targets import load_target
from ..errors import ConfigError
from ..runs.journal import events
from .naming import run_name
from .stores import Delivery

#: Most events of one call.
MOST_EVENTS = 500


@dataclass(frozen=True)
class Run:
    """The run, as a user-defined tracker gets it."""

    directory: Path
    """The run directory."""
    name: str
    """`<mode>-<compression>-<model>-<short id>`."""
    key: str
    """32 hexadecimal digits that stay the same when the run is resumed or moved, and differ in a copy."""
    config: dict[str, Any]
    """Every leaf of the config under its dotted name."""


class Custom:
    """A run that is being delivered to a user-defined tracker."""

    def __init__(self, directory: Path, config: cfg.Config, name: str, settings: cfg.CustomTracker) -> None:
        self.directory, self.settings = directory, settings
        self.tracked = Delivery(directory, name)
        if self.tracked.is_of_another_journal:
            self.tracked.values["offset"] = 0
        self._run = Run(directory, run_name(config, directory), self.tracked.values["key"], store.leaves(config))
        self._target: Any = None

    @property
    def place(self) -> str:
        """The callable."""
        return self.settings.target

    @property
    def behind(self) -> bool:
        """Whether the journal has events that `replay` has not received."""
        return self.tracked.behind

    def check(self) -> None:
        """Create the user's object, once. Errors: ConfigError if the callable is missing, or returns something else."""
        if self._target is None:
            # A call whose completion was not noted is repeated, with the same key.
            self.tracked.write()
            tracker = load_target(self.settings.target)(run=self._run, **self.settings.kwargs)
            if not callable(getattr(tracker, "replay", None)):
                raise ConfigError(
                    f"{self.settings.target} returns a {type(tracker).__name__} without a method replay(events), which "
                    "a tracker needs."
                )
            self._target = tracker

    def replay(self) -> bool:
        """Deliver new events, and note it. Returns whether the run has ended."""
        self.check()
        while batch := list(itertools.islice(self._new(), MOST_EVENTS)):
            self._replay([event for event, _ in batch])
            self.tracked.read_to(batch[-1][1])
        return bool(self.tracked.values.get("ended"))

    def end(self, event: dict[str, Any]) -> None:
        """Deliver the end of a run whose journal could not record it."""
        self.check()
        self._replay([event])
        with contextlib.suppress(OSError):
            self.tracked.write()

    def _new(self) -> Iterator[tuple[dict[str, Any], int]]:
        return events(self.directory, self.tracked.values.get("offset", 0))

    def _replay(self, batch: list[dict[str, Any]]) -> None:
        self._target.replay(batch)
        for event in batch:
            if event["event"] in ("started", "resumed", "ended"):
                self.tracked.values["ended"] = event["event"] == "ended"
