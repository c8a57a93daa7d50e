"""Reads run directories: config, state, checkpoints; and lists the runs below a folder."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files, stored
from ..config import store
from ..errors import ConfigError, Damaged, ProcessLost, UserError
from ..processes import is_locked, locked
from . import result as results
from . import summary
from .events import EVENTS, is_of_training
from .journal import (
    CHECKPOINTS,
    CONFIG,
    JOURNAL,
    LOCK,
    MLFLOW,
    ORIGIN,
    OVERRIDES,
    PLOTS,
    QUANTIZED,
    RANKS,
    RESULT,
    Journal,
    events,
    latest,
    tracked,
    tracked_file,
)
from .result import Result

#: Events that start an attempt.
BEGINNINGS = ("started", "resumed")
#: Events of a run that failed before it read its data.
BEFORE_DATA = {"started", "tags", "note", "migrated", "ended"}
#: Events that verbs add to a run that has ended.
LATER = {"metrics", "artifact", "model", "note", "tags", "migrated"}


def mlflow_id(directory: Path) -> str | None:
    """The id of a run in MLflow; None if it is not there yet."""
    return tracked(directory).get("run_id")


def overrides(directory: Path) -> list[str]:
    """The overrides that a run was started with. Errors: Damaged."""
    return stored.read_yaml(directory / OVERRIDES, list[str] | None) or []


def config_of(directory: Path) -> cfg.Config | None:
    """The config of a run; None if another version wrote it, or the run failed before writing it. Errors: Damaged."""
    with contextlib.suppress(ConfigError):
        return None if _was_refused(directory) else store.read(directory / CONFIG)
    return None


def groups_of(directory: Path, *names: str) -> dict[str, Any]:
    """Some groups of the config of a run, for a list; empty if `config_of` is None. Errors: Damaged."""
    with contextlib.suppress(ConfigError):
        return {} if _was_refused(directory) else store.read_groups(directory / CONFIG, names)
    return {}


def _was_refused(directory: Path) -> bool:
    """Whether it is a job of a sweep that could not be started."""
    has_begun = any(os.path.lexists(directory / name) for name in (CONFIG, CHECKPOINTS))
    return not has_begun and next(latest(directory, ("ended",)), None) is not None


@dataclass
class State:
    """The state of a run."""

    status: str
    """RUNNING, FINISHED, STOPPED_EARLY by its sweep, FAILED, KILLED, DAMAGED, or LOST if all of its processes were
    killed before one could record the end."""
    reason: str
    """Why it did not finish."""
    exit_code: int
    """The exit code of its command."""
    step: int
    """The last step that was logged."""
    result: Result | None
    """`result.json` of a finished run."""


def state(directory: Path) -> State:
    """The state of the run of a directory, from its journal, its lock and its result."""
    try:
        current = _in_journal(directory)
        require_begun(directory)
        if current.status == "LOST" and is_locked(directory / LOCK):
            current.status = "RUNNING"
    except Damaged as error:
        return damaged(error)
    if current.status == "LOST":
        current.reason = "its processes were killed; checkpoint.resume=auto continues it"
    return current


def damaged(error: UserError, step: int = 0) -> State:
    """The state of a run with an unusable file."""
    return State("DAMAGED", str(error), error.exit_code, step, None)


def require_begun(directory: Path) -> None:
    """Errors: Damaged if a journal does not record the start of a run."""
    if not _began(directory):
        raise Damaged(
            f"{directory / JOURNAL} is missing or damaged: it does not record the start of a run. {stored.REMEDY}"
        )


def _began(directory: Path) -> float:
    """When a run started; 0 if its journal does not say so. Errors: Damaged."""
    return next((event["time"] for event, _ in events(directory, kinds=BEGINNINGS)), 0.0)


def _in_journal(directory: Path) -> State:
    """Errors: Damaged."""
    state = State("LOST", "", ProcessLost.exit_code, _last_step(directory), results.read(directory / RESULT))
    if (event := next(latest(directory, (*BEGINNINGS, "ended")), None)) and event["event"] == "ended":
        state.status, state.reason, state.exit_code = event["status"], event["reason"], event["exit_code"]
    return state


def _last_step(directory: Path) -> int:
    return next((event["step"] for event in latest(directory, ("metrics",)) if is_of_training(event)), 0)


def checkpoints(directory: Path) -> dict[str, str]:
    """`final`, `best` and `last` → the checkpoint that a complete run wrote into it; empty for any other run."""
    pointers: dict[str, str] = {}
    ended = False
    for event, _ in events(directory, kinds=EVENTS.keys() - LATER):
        ended = event["event"] == "ended" and event["status"] == "FINISHED"
        if event["event"] == "dataset":
            # Here an attempt begins, and says again which of the earlier ones it has.
            pointers = {}
        elif event["event"] == "checkpoint" and event.get("final"):
            pointers["final"] = event["name"]
        elif event["event"] == "checkpoint":
            pointers |= {"last": event["name"]} | ({"best": event["name"]} if event["better"] else {})
    return pointers if ended else _without_journal(directory)


def _without_journal(directory: Path) -> dict[str, str]:
    """The same for a run with a result but no such event in its journal: the pointers that every such run has."""
    with contextlib.suppress(ConfigError, Damaged):
        if (directory / RESULT).is_file() and isinstance(store.read(directory / CONFIG).compression, cfg.Ptq):
            return {"final": QUANTIZED}
    return {}


def close_lost(directory: Path) -> dict[str, Any] | None:
    """Record the end of a run whose processes are gone; returns that event if the journal cannot be written.

    Does nothing for a run that has ended or is still running.
    """
    if state(directory).status != "LOST":
        return None
    # Others may be looking at the lock.
    with locked(directory / LOCK, patience_s=1) as lock:
        # Another process has the lock: it continues the run.
        if lock is None or _in_journal(directory).status != "LOST":
            return None
        reason = "the command that supervised the run was killed"
        end = {"status": "FAILED", "reason": reason, "exit_code": ProcessLost.exit_code}
        try:
            Journal(directory).append("ended", **end)
        except OSError:
            return end | {"time": time.time()}
    return None


def forget_refused(directory: Path) -> bool:
    """Clear the directory of a run that failed before it read its data, for a new run.

    Returns whether it was such a run. Its logs, and its runs in trackers, stay.
    """
    if state(directory).status != "FAILED" or next(events(directory, kinds=EVENTS.keys() - BEFORE_DATA), None):
        return False
    trackers = [str(path.relative_to(directory)) for path in directory.glob(f"{RANKS}/tracking.*json")]
    for name in (CONFIG, OVERRIDES, JOURNAL, ORIGIN, tracked_file(MLFLOW), *trackers):
        files.remove_file(directory / name)
    return True


def is_running(directory: Path) -> bool:
    """Whether a process trains in this directory, as far as can be determined."""
    with contextlib.suppress(Damaged):
        return is_locked(directory / LOCK)
    return False


def find(root: Path) -> Iterator[Path]:
    """Every run directory below a folder, the oldest first; including those that are partly unreadable.

    Summaries of sweeps are none. A folder that cannot be listed is reported on standard error.
    """
    directories = []
    # Links are not followed.
    for place, folders, names in os.walk(root, onerror=_tell_of_closed):
        # The folder of locks is only a run's own: MLflow's copy of one has no such folder.
        if JOURNAL in (*folders, *names) or (CONFIG in names and RANKS in folders):
            directories += [] if summary.is_summary(Path(place)) else [Path(place)]
            folders[:] = [name for name in folders if name not in (CHECKPOINTS, PLOTS, RANKS)]
    yield from sorted(directories, key=lambda directory: (began(directory), str(directory)))


def _tell_of_closed(error: OSError) -> None:
    print(f"{error.filename} cannot be read: {error.strerror}. Its runs are not listed.", file=sys.stderr)


def began(directory: Path) -> float:
    """When a run started, in seconds since 1970; if its journal does not say so, when its folder changed."""
    with contextlib.suppress(Damaged):
        if seconds := _began(directory):
            return seconds
    return directory.stat().st_mtime
