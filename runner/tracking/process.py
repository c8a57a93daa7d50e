"""The command's side of the tracker processes, one for each tracker."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import child, device, processes, terminal
from .. import config as cfg
from ..runs.journal import TRACKING_LOG, tracked
from . import stores, tracker

#: Restarts of a process that was killed.
MOST_STARTS = 4


@dataclass
class Mirrors:
    """The tracker processes of a command."""

    processes: dict[str, MirrorProcess] = field(default_factory=dict)
    """By the tracker's name."""

    @property
    def followed(self) -> set[Path]:
        """The runs that are sent somewhere."""
        return {directory for process in self.processes.values() for directory in process.followed}

    def follow(self, directory: Path, name: str, settings: cfg.Tracker) -> None:
        """Deliver a run to a tracker from now on."""
        self.processes.setdefault(name, MirrorProcess(name)).follow(directory, settings)

    def look(self) -> None:
        """Called now and then: restart processes that were killed."""
        for process in self.processes.values():
            process.look()

    def ended(self, directory: Path, end: dict[str, Any] | None) -> None:
        """A run has ended; `end` says how, if its journal could not record it."""
        for process in self.processes.values():
            process.ended(directory, end)

    def drain(self) -> None:
        """Wait until everything is sent, as long as the runs allow; report it if that was not long enough."""
        for process in self.processes.values():
            process.leave()
        for process in self.processes.values():
            process.drain()


@dataclass
class MirrorProcess:
    """One process for all runs of a command; started with the first run for its tracker."""

    name: str
    """The tracker's name."""
    process: subprocess.Popen[bytes] | None = None
    followed: dict[Path, cfg.Tracker] = field(default_factory=dict)
    ends: dict[Path, dict[str, Any] | None] = field(default_factory=dict)
    """How runs ended, if their journals could not record it."""
    starts: int = 0

    def follow(self, directory: Path, settings: cfg.Tracker) -> None:
        """Deliver a run from now on, to the address that the command's config names."""
        tracker.begin(directory, self.name, settings)
        self.followed[directory] = settings
        if self.process is None:
            self._start()
        else:
            self.look()
            self._say({"follow": str(directory)})

    def _start(self) -> None:
        """Start it, and send it everything it has to know."""
        self.starts += 1
        with (next(reversed(self.followed)) / TRACKING_LOG).open("ab") as log:
            self.process = subprocess.Popen(
                child.command("runner.tracking", self.name),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | device.home() | {"OMP_NUM_THREADS": "1"},
            )
        for directory in self.followed:
            self._say({"follow": str(directory)})
        for directory, end in self.ends.items():
            self._say({"ended": str(directory), "end": end})

    def look(self) -> None:
        """Called now and then: restart it if it was killed."""
        if self.process is not None and self.process.poll() is not None and self.starts < MOST_STARTS:
            with contextlib.suppress(OSError):
                self._start()

    def ended(self, directory: Path, end: dict[str, Any] | None) -> None:
        """A run has ended; `end` says how, if its journal could not record it."""
        if directory in self.followed:
            self.ends[directory] = end
            self.look()
            self._say({"ended": str(directory), "end": end})

    def leave(self) -> None:
        """No further run will come."""
        if self.process is not None:
            self._say({"leave": True})
            processes.reclaim_cpu(self.process.pid)

    def drain(self) -> None:
        """Wait until everything is sent, as long as the runs allow; report it if that was not long enough."""
        if self.process is None:
            return
        limit = max((settings.drain_s for settings in self.followed.values()), default=0.0)
        try:
            drained = self._drain(limit)
            while drained and self.process.returncode < 0 and self.starts < MOST_STARTS:
                # It was killed.
                self._start()
                drained = self._drain(limit)
        except KeyboardInterrupt:
            drained = False
        if not drained:
            self.kill()
        for directory in self.followed:
            self._say_what_is_missing(directory)
        self.process, self.followed, self.ends, self.starts = None, {}, {}, 0

    def _drain(self, seconds: float) -> bool:
        """Let it finish within this many seconds. Returns whether it did."""
        assert self.process is not None
        self.leave()
        return processes.wait(self.process, seconds)

    def _say_what_is_missing(self, directory: Path) -> None:
        record = tracked(directory, self.name)
        if record.get("ended"):
            return
        place = os.path.relpath(directory)
        if record.get("refused"):
            print(f"{record['refused']}\nThe run directory has all of it: {place}", file=sys.stderr)
            return
        print(
            f"Not everything reached {stores.shown(record.get('uri') or self.name)}; the run directory has all of it. "
            f"Later: {terminal.command('sync', terminal.place(directory))}\nWhy: {place}/{TRACKING_LOG}",
            file=sys.stderr,
        )

    def kill(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _say(self, word: dict[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(word).encode() + b"\n")
            self.process.stdin.flush()
