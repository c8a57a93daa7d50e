"""Status and message of a run, from its first failed process."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import config as cfg
from .. import terminal
from ..errors import STOPPED, DiskError, ProcessLost
from ..files.disk_errors import run_disk_error
from ..runs import protocol, sweep
from ..runs.early_stopping import STOPPED_EARLY
from ..runs.journal import CHECKPOINTS
from . import nodes, workers


@dataclass
class Outcome:
    """How a run ended."""

    exit_code: int
    status: str
    """FINISHED, FAILED, KILLED, or STOPPED_EARLY by the sweep it is of."""
    reason: str
    """The message for the user; empty on success."""
    kind: str = ""
    """The `errors.kind_of` of a process's error."""


def outcome_of(
    ended: workers.FailedProcess | None,
    directory: Path,
    signal_received: int = 0,
    settings: cfg.Launch | None = None,
    node: nodes.Node | None = None,
) -> Outcome:
    """The outcome of a run, from its first failed process."""
    if ended is None:
        return Outcome(0, "FINISHED", "")
    code = ended.code
    if code in STOPPED and not signal_received and (reason := protocol.read_early_end(directory)):
        return Outcome(0, STOPPED_EARLY, reason)
    if failure := protocol.read_failure(directory, ended.rank or 0):
        return Outcome(failure.exit_code, "FAILED", failure.message, failure.kind)
    if code in (-signal.SIGINT, -signal.SIGTERM):
        # The signal came before the process could handle it.
        code = 128 - code
    if signal_received:
        code = 128 + signal_received
    if code in STOPPED:
        state = _how_to_go_on(directory) or "There was no checkpoint yet."
        if node and node.first:
            state = "The command of the first process says how to resume."
        return Outcome(code, "KILLED", f"Stopped by {STOPPED[code]}. {state}")
    if not directory.exists():
        return Outcome(DiskError.exit_code, "FAILED", str(run_disk_error(FileNotFoundError(), directory)))
    if code == DiskError.exit_code:
        return Outcome(code, "FAILED", f"Nothing can be written to {directory}, not even the reason. Is its disk full?")
    if code < 0 and sys.stdout.isatty():
        # The progress bar had hidden the cursor.
        print("\x1b[?25h", end="", flush=True)
    return Outcome(
        ProcessLost.exit_code,
        "FAILED",
        f"{_loss(ended, directory, settings, node)}\n{_how_to_go_on(directory)}".strip(),
        ProcessLost.__name__,
    )


def _how_to_go_on(directory: Path) -> str:
    """How to resume a run that has a checkpoint."""
    if not (directory / CHECKPOINTS / "last").is_file():
        return ""
    place = terminal.pasted("hydra.run.dir", os.path.relpath(directory))
    how = "sweep.resume=true" if sweep.is_swept(directory) else f"{place} checkpoint.resume=auto"
    return f"Continue with the same command and {how}"


def _loss(ended: workers.FailedProcess, directory: Path, settings: cfg.Launch | None, node: nodes.Node | None) -> str:
    """The message for a lost process."""
    alone = node is None or node.world_size == 1
    who = "The training process" if alone else "The run" if ended.rank is None else f"Process {ended.rank}"
    log = protocol.log_of(directory, ended.rank or 0)
    if ended.stalled and settings:
        return (
            f"{who} stalled: no step was finished for {settings.timeout_s:g} s (launch.timeout_s), or the other "
            f"processes waited for it. Where it was: {log}"
        ) + (
            " Were all machines started, with the same launch.master?"
            if node and node.world_size > node.processes
            else ""
        )
    if ended.code in workers.CUT_OFF and not alone:
        return f"{who} lost the connection to the others. The log of the one that ended first says why; its own: {log}"
    name = signal.Signals(-ended.code).name if ended.code < 0 else f"exit code {ended.code}"
    reason = f"{who} ended with {name}. Log: {log}"
    if ended.code == -signal.SIGKILL:
        reason += "\nIts memory may have run out: lower data.batch_size or data.image_size, or raise train.accumulate."
    return reason
