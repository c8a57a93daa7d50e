"""RUN: a run directory or an MLflow run id, wherever a command or a key takes one."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import config as cfg
from . import device, files, stored
from .config import store
from .errors import CheckpointError, ConfigError, Damaged, ProcessLost, UserError
from .journal import (
    CHECKPOINTS,
    CONFIG,
    JOURNAL,
    LOCK,
    OVERRIDES,
    PLOTS,
    QUANTIZED,
    RANKS,
    RESULT,
    Journal,
    events,
    tracked,
)
from .locks import is_locked, locked

RUN_ID = re.compile(r"[0-9a-f]{32}")
#: Events that verbs add to a run that has ended.
LATER = {"metrics", "artifact", "model", "note", "tags"}


def directory_of(run: str, uri: str) -> Path:
    """The directory of a run. Of an MLflow run id whose directory is gone, one with what MLflow has of it.

    Errors: CheckpointError where there is no such run.
    """
    found = local(run, uri)
    if not (found / CONFIG).is_file():
        raise CheckpointError(
            f"There is no run {run}: it is neither a run directory nor an MLflow run id. "
            "`python -m runner runs` lists the runs of this folder."
        )
    return found


def local(source: str, uri: str) -> Path:
    """`source` as a path; where it is an MLflow run id, a directory with that run. Errors: CheckpointError."""
    path = Path(source)
    if path.exists() or not RUN_ID.fullmatch(source):
        return path
    from .tracking import server

    return server.fetch(uri, source)


def mlflow_id(directory: Path) -> str | None:
    """The id of a run in MLflow; None where it is not there yet."""
    return tracked(directory).get("run_id")


def tracking_uri(config: cfg.Config) -> str:
    """Where MLflow run ids are looked up."""
    return config.tracking.uri if isinstance(config.tracking, cfg.Mlflow) else cfg.Mlflow.uri


def overrides(directory: Path) -> list[str]:
    """What a run was started with. Errors: Damaged."""
    return stored.read_yaml(directory / OVERRIDES, list[str] | None) or []


def open_(run: str, overrides: list[str]) -> tuple[Path, cfg.Config]:
    """The directory of a run and its config with some `key=value` changed, for a process that is to use the network.

    `trust=true` among them allows the `custom` targets of the config. Errors: CheckpointError, ConfigError.
    """
    said = [text for text in overrides if text != "trust=true"]
    uri = next((text.partition("=")[2] for text in said if text.startswith("tracking.uri=")), cfg.Mlflow.uri)
    directory = directory_of(run, uri)
    files.refuse_links(directory)
    config = store.read(directory / CONFIG, [text for text in said if not text.startswith("tracking.uri=")])
    _tell_of_changes(directory)
    if getattr(config.data, "download", False) and "data.download=true" not in said:
        # Whoever made the run asked for the data then; who looks at it did not.
        config = replace(config, data=replace(config.data, download=False))  # type: ignore[call-arg]
    targets = [value for key, value in store.flatten(config).items() if key.endswith(".target")]
    if targets and said == overrides:
        raise ConfigError(
            f"{run} uses code of its own, {', '.join(targets)}, which would be imported and called. If you trust "
            "whoever made that run, add: trust=true"
        )
    device.load_paddle(config.train.threads)
    return directory, config


def _tell_of_changes(directory: Path) -> None:
    """Say that a config is not the one that was trained, which the network's numbers depend on. Errors: Damaged."""
    begun = [event for event, _ in events(directory) if event["event"] in ("started", "resumed")]
    text = stored.read_text(directory / CONFIG) or ""
    if begun and begun[-1].get("config", files.text_digest(text)) != files.text_digest(text):
        print(f"{directory / CONFIG} was changed after the run began: numbers may not be the run's.", file=sys.stderr)


def config_of(directory: Path) -> cfg.Config | None:
    """The config of a run, for a list; None where another version wrote it, or the run never came so far.

    Errors: Damaged.
    """
    has_begun = any(os.path.lexists(directory / name) for name in (CONFIG, CHECKPOINTS))
    if not has_begun and any(event["event"] == "ended" for event, _ in events(directory)):
        # A job of a sweep that could not be started.
        return None
    with contextlib.suppress(ConfigError):
        return store.read(directory / CONFIG)
    return None


@dataclass
class State:
    """Where a run stands."""

    status: str
    """RUNNING, FINISHED, FAILED, KILLED; LOST where everything that could have said so was killed; DAMAGED."""
    reason: str
    """Why it did not finish."""
    exit_code: int
    """What its command ended with."""
    step: int
    """The last step that was logged."""
    result: dict[str, Any] | None
    """`result.json` of a finished run."""


def state(directory: Path) -> State:
    """Where the run of a directory stands, from its journal, its lock and its result."""
    try:
        found = _in_journal(directory)
        if not _began(directory):
            raise Damaged(f"{directory / JOURNAL} is missing or damaged: it does not say that a run began.")
        if found.status == "LOST" and is_locked(directory / LOCK):
            found.status = "RUNNING"
    except Damaged as error:
        return damaged(error)
    if found.status == "LOST":
        found.reason = "its processes were killed; checkpoint.resume=auto continues it"
    return found


def damaged(error: UserError, step: int = 0) -> State:
    """The state of a run of which a file cannot be used."""
    return State("DAMAGED", str(error), error.exit_code, step, None)


def _began(directory: Path) -> float:
    """When a run began; 0 where its journal does not say so. Errors: Damaged."""
    return next((event["time"] for event, _ in events(directory) if event["event"] in ("started", "resumed")), 0.0)


def _in_journal(directory: Path) -> State:
    """Errors: Damaged."""
    status, reason, exit_code, step = "LOST", "", ProcessLost.exit_code, 0
    for event, _ in events(directory):
        match event["event"]:
            case "started" | "resumed":
                status, reason, exit_code = "LOST", "", ProcessLost.exit_code
            case "ended":
                status, reason, exit_code = event["status"], event["reason"], event["exit_code"]
            case "metrics":
                step = max(step, event["step"])
    return State(status, reason, exit_code, step, stored.result(directory / RESULT))


def checkpoints(directory: Path) -> dict[str, str]:
    """`final`, `best` and `last` → the checkpoint that a complete run wrote in it; empty of any other run."""
    found: dict[str, str] = {}
    ended = False
    for event, _ in events(directory):
        ended = (event["event"] == "ended" and event["status"] == "FINISHED") or (ended and event["event"] in LATER)
        if event["event"] == "dataset":
            # Here an attempt begins, and says again which of the earlier ones it has.
            found = {}
        elif event["event"] == "checkpoint" and event.get("final"):
            found["final"] = event["name"]
        elif event["event"] == "checkpoint":
            found |= {"last": event["name"]} | ({"best": event["name"]} if event["better"] else {})
    return found if ended else _without_journal(directory)


def _without_journal(directory: Path) -> dict[str, str]:
    """The same of a run with a result whose journal says nothing of it: what such a run always ends with."""
    with contextlib.suppress(ConfigError, Damaged):
        if (directory / RESULT).is_file() and isinstance(store.read(directory / CONFIG).compression, cfg.Ptq):
            return {"final": QUANTIZED}
    return {}


def monitored(result: dict[str, Any]) -> float:
    """What decides between runs: the monitored metric of the best weights; test top-1 where nothing was validated."""
    return float(result["best"] if result["best"] is not None else result["final"]["top1"])


def close_lost(directory: Path) -> dict[str, Any] | None:
    """Note the end of a run whose processes are gone. The end where the journal cannot take it.

    Nothing is noted of a run that has ended or still goes on.
    """
    if state(directory).status != "LOST":
        return None
    with locked(directory / LOCK, patience_s=0) as lock:
        # Without the lock somebody goes on with it.
        if lock is None or _in_journal(directory).status != "LOST":
            return None
        reason = "the command that supervised the run was killed"
        end = {"status": "FAILED", "reason": reason, "exit_code": ProcessLost.exit_code}
        try:
            Journal(directory).append("ended", **end)
        except OSError:
            return end | {"time": time.time()}
    return None


def is_running(directory: Path) -> bool:
    """Whether a process trains in this directory, as far as that can be told."""
    with contextlib.suppress(Damaged):
        return is_locked(directory / LOCK)
    return False


def find(root: Path) -> Iterator[Path]:
    """Every run directory below a folder, the oldest first; those of which not all can be read are among them.

    A folder that cannot be looked into is named on the standard error.
    """
    found = []
    # Links are not followed.
    for place, folders, names in os.walk(root, onerror=_tell_of_closed):
        # The folder of locks is only a run's own: MLflow's copy of one has no such folder.
        if JOURNAL in (*folders, *names) or (CONFIG in names and RANKS in folders):
            found.append(Path(place))
            folders[:] = [name for name in folders if name not in (CHECKPOINTS, PLOTS, RANKS)]
    yield from sorted(found, key=lambda directory: (began(directory), str(directory)))


def _tell_of_closed(error: OSError) -> None:
    print(f"{error.filename} cannot be read: {error.strerror}. Runs in it are left out.", file=sys.stderr)


def began(directory: Path) -> float:
    """When a run began, in seconds since 1970; where its journal does not say so, when its folder changed."""
    with contextlib.suppress(Damaged):
        if seconds := _began(directory):
            return seconds
    return directory.stat().st_mtime
