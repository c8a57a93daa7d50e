"""The process that sends the runs of one command to one tracker while they train: `python -m runner.tracking NAME`.

The command, its parent, names run directories on standard input. Each journal is followed until its run has ended, or
until the parent is gone, which closes standard input. So training never waits for a server; a run whose command was
killed still ends as FAILED; MLflow is imported once for all jobs of a sweep; and a tracker that hangs holds up no
other.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import processes, runs, terminal
from ..config import store
from ..config.credentials import masked
from ..errors import UserError
from ..processes import locked
from ..runs.journal import CONFIG, MLFLOW, TRACKING_LOG, events, tracking_lock
from .answers import DEFECTS, Masked, is_final, reason_of
from .stores import Delivery
from .tracker import Tracker, build

#: Seconds between two reads of a journal, and the longest wait after a failure.
POLL_S, RETRY_S = 0.5, 15.0
#: Attempts to deliver the end of a run once nobody waits for it.
LAST_TRIES = 2


def main() -> None:
    """Follow runs until the parent says that no more will come and all are delivered, or nobody waits for them."""
    # Ctrl-C, SLURM's SIGTERM and a closed terminal reach every process: this one ends when the runs have.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = sys.stderr = Masked(sys.stderr)  # type: ignore[assignment]
    # Training has priority on every core.
    processes.yield_cpu()
    tracker = sys.argv[1] if len(sys.argv) > 1 else MLFLOW
    parent = Parent()
    followed: list[Followed] = []
    while True:
        for run in followed:
            if time.monotonic() >= run.next_try:
                run.deliver(parent.gone)
        followed = [run for run in followed if not run.done]
        if (parent.gone or parent.leaving) and not followed:
            return
        soon = min((run.next_try for run in followed), default=time.monotonic() + RETRY_S)
        for word in parent.listen(max(0.0, soon - time.monotonic())):
            match word:
                case {"follow": directory}:
                    followed.append(Followed(Path(directory), tracker))
                case {"ended": directory, "end": end}:
                    for run in followed:
                        if run.directory == Path(directory):
                            run.last_word, run.next_try = end, 0.0


class Parent:
    """The command that waits for this process, at the other end of standard input."""

    def __init__(self) -> None:
        self.gone = self.leaving = False
        self._rest = b""

    def listen(self, seconds: float) -> list[dict[str, Any]]:
        """The parent's messages within this many seconds, one JSON object a line."""
        if self.gone:
            time.sleep(seconds)
            return []
        if not select.select([0], [], [], seconds)[0]:
            return []
        content = os.read(0, 1 << 16)
        self.gone = not content
        *lines, self._rest = (self._rest + content).split(b"\n")
        words = [json.loads(line) for line in lines]
        self.leaving = self.leaving or {"leave": True} in words
        return words


class Followed:
    """A run that is being delivered to the tracker."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.attempt = attempts(directory)
        self.done = False
        self.next_try, self.wait, self.failures = 0.0, POLL_S, 0
        self.failed_with: type[Exception] | None = None
        """The kind of the last failure."""
        self.last_word: dict[str, Any] | None = None
        """How the run ended, if its journal could not record it."""
        self._tracker: Tracker | None = None
        self._held = contextlib.ExitStack()

    def deliver(self, orphaned: bool) -> None:
        """Send what is new, and record when the run is complete or nobody waits for it."""
        try:
            if orphaned:
                self.last_word = self.last_word or runs.close_lost(self.directory)
            if tracker := self._taken():
                self.done = tracker.replay()
                self.wait, self.failures, self.failed_with = POLL_S, 0, None
                if self.last_word and not self.done:
                    tracker.end(self.last_word)
                    self.done = True
        except Exception as error:
            reason = str(error) if isinstance(error, UserError) else reason_of(error)
            # A file that was being replaced is there the next time, and a client may trip over one odd answer.
            is_certain = not isinstance(error, (OSError, *DEFECTS)) or self.failed_with is type(error)
            self.failed_with = type(error)
            if is_final(error) and is_certain:
                self._log(f"not delivered: {reason}")
                self._refused(reason if isinstance(error, UserError) else self._with_remedy(reason))
            else:
                self._log(f"not delivered yet, trying again in {self.wait:.1f} s: {reason}")
            self.wait, self.failures = min(2 * self.wait, RETRY_S), self.failures + 1
        self.next_try = time.monotonic() + self.wait
        if orphaned and not self.done:
            taken_over = attempts(self.directory) > self.attempt
            self.done = taken_over or (self.failures >= LAST_TRIES and not runs.is_running(self.directory))
        if self.done:
            self._held.close()

    def _taken(self) -> Tracker | None:
        """The run's tracker; None while the process of an earlier attempt is still working on it."""
        if self._tracker is None:
            config = store.read(self.directory / CONFIG)
            if self._held.enter_context(locked(self.directory / tracking_lock(self.name), patience_s=0)) is None:
                self._held.close()
                return None
            settings = config.tracking.trackers[self.name]
            self._tracker = build(self.directory, config, self.name, settings, self._log)
        return self._tracker

    def _refused(self, reason: str) -> None:
        """Give up, and write the reason for the command."""
        self.done = True
        with contextlib.suppress(OSError, UserError):
            Delivery(self.directory, self.name).update(refused=masked(reason))

    def _with_remedy(self, reason: str) -> str:
        again = terminal.command("sync", terminal.place(self.directory))
        return f"{self.name} did not take the run: {reason}. When that is mended: {again}"

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), (self.directory / TRACKING_LOG).open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%F %T')} {'' if self.name == MLFLOW else f'{self.name}: '}{masked(text)}\n")


def attempts(directory: Path) -> int:
    """How often a run was started or resumed."""
    return sum(1 for _ in events(directory, kinds=("started", "resumed")))


if __name__ == "__main__":
    main()
    sys.exit(0)
