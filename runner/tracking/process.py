"""The command's side of the process that mirrors its runs into MLflow."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import child, home, processes
from .. import config as cfg
from ..journal import TRACKING_LOG, tracked


@dataclass
class MirrorProcess:
    """One process for all runs of a command; it starts with the first one that is tracked."""

    process: subprocess.Popen[bytes] | None = None
    followed: dict[Path, cfg.Mlflow] = field(default_factory=dict)

    def follow(self, directory: Path, tracking: cfg.Mlflow) -> None:
        """Deliver a run from now on."""
        if self.process is None or self.process.poll() is not None:
            with (directory / TRACKING_LOG).open("ab") as log:
                self.process = subprocess.Popen(
                    child.command("runner.tracking"),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=os.environ | home.environment() | {"OMP_NUM_THREADS": "1"},
                )
        self.followed[directory] = tracking
        self._say({"follow": str(directory)})

    def ended(self, directory: Path, end: dict[str, Any] | None) -> None:
        """A run has ended; `end` says how, where its journal could not take that."""
        if directory in self.followed:
            self._say({"ended": str(directory), "end": end})

    def drain(self) -> None:
        """Give it the time that the runs allow to send all; say so where that was not enough."""
        if self.process is None:
            return
        self._say({"leave": True})
        processes.step_forward(self.process.pid)
        try:
            drained = processes.wait(self.process, max((one.drain_s for one in self.followed.values()), default=0.0))
        except KeyboardInterrupt:
            drained = False
        if not drained:
            self.kill()
        for directory, tracking in self.followed.items():
            if not tracked(directory).get("ended"):
                place = os.path.relpath(directory)
                print(
                    f"Not everything reached {tracking.uri}; the run directory has all of it. "
                    f"Later: python -m runner sync {place}\nWhy: {place}/{TRACKING_LOG}",
                    file=sys.stderr,
                )
        self.process, self.followed = None, {}

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _say(self, word: dict[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(word).encode() + b"\n")
            self.process.stdin.flush()
