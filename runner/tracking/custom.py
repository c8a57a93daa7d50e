"""User-defined trackers: objects whose `replay` receives new events of a run's journal."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import child
from .. import config as cfg
from ..config import store
from ..config.targets import load_target
from ..errors import ConfigError, UserError
from ..runs.journal import events
from .answers import reason_of
from .naming import run_name
from .stores import Delivery

#: Most events of one call.
MOST_EVENTS = 500
#: Seconds that its module has to be imported before a run; the process that sends the run has any time.
IMPORT_S = 60.0


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
            _require_replay(tracker, f"{self.settings.target} returns a {type(tracker).__name__}")
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


def _require_replay(tracker: Any, what: str) -> None:
    if not callable(getattr(tracker, "replay", None)):
        raise ConfigError(f"{what} without a method replay(events), which a tracker needs.")


@functools.cache
def require(target: str, names: tuple[str, ...]) -> None:
    """Refuse a callable that cannot be imported or takes other arguments than `run` and `names`, or a class of no
    trackers.

    It is imported in a process of its own and not called. Errors: ConfigError.
    """
    command = child.command("runner.tracking.custom", target, *names)
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=IMPORT_S
        )
        if done.stdout:
            raise ConfigError(done.stdout.decode())


def _refuse(target: str, names: list[str]) -> None:
    """What `require` does, in its process."""
    function = load_target(target)
    if isinstance(kind := inspect.unwrap(function), type):
        _require_replay(kind, f"target={target}: it is a class")
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Compiled code may have none.
        return
    try:
        signature.bind(run=None, **dict.fromkeys(names))
    except TypeError as error:
        arguments = ", ".join(["run", *names])
        raise ConfigError(f"target={target} is called with {arguments}, which it does not take: {error}.") from error


def answer() -> None:
    """In the process of `require`: print why the callable is refused."""
    answers = os.dup(1)
    # The module may print.
    os.dup2(2, 1)
    target, *names = sys.argv[1:]
    try:
        _refuse(target, names)
    except UserError as error:
        os.write(answers, str(error).encode())
    except BaseException as error:
        os.write(answers, f"target={target} cannot be imported: {reason_of(error)}".encode())
    os._exit(0)


if __name__ == "__main__":
    answer()
