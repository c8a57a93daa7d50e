"""RUN: a run directory or an MLflow run id, wherever a command or a key takes one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import config as cfg
from . import device
from .config import store
from .errors import CheckpointError, ConfigError, ProcessLost
from .journal import CONFIG, JOURNAL, LOCK, OVERRIDES, RESULT, Journal, events, tracked
from .locks import locked

RUN_ID = re.compile(r"[0-9a-f]{32}")


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
    """What a run was started with."""
    path = directory / OVERRIDES
    return list(yaml.safe_load(path.read_text(encoding="utf-8")) or []) if path.is_file() else []


def open_(run: str, overrides: list[str]) -> tuple[Path, cfg.Config]:
    """The directory of a run and its config with some `key=value` changed, for a process that is to use the network.

    `trust=true` among them allows the `custom` targets of the config. Errors: CheckpointError, ConfigError.
    """
    said = [text for text in overrides if text != "trust=true"]
    uri = next((text.partition("=")[2] for text in said if text.startswith("tracking.uri=")), cfg.Mlflow.uri)
    directory = directory_of(run, uri)
    config = store.read(directory / CONFIG, [text for text in said if not text.startswith("tracking.uri=")])
    targets = [value for key, value in store.flatten(config).items() if key.endswith(".target")]
    if targets and said == overrides:
        raise ConfigError(
            f"{run} uses code of its own, {', '.join(targets)}, which would be imported and called. If you trust "
            "whoever made that run, add: trust=true"
        )
    device.load_paddle(config.train.threads)
    return directory, config


@dataclass
class State:
    """Where a run stands."""

    status: str
    """RUNNING, FINISHED, FAILED, KILLED; LOST where everything that could have said so was killed."""
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
    found = _in_journal(directory)
    if found.status == "LOST" and is_running(directory):
        found.status = "RUNNING"
    if found.status == "LOST":
        found.reason = "its processes were killed; checkpoint.resume=auto continues it"
    return found


def _in_journal(directory: Path) -> State:
    status, reason, exit_code, step = "LOST", "", ProcessLost.exit_code, 0
    for event, _ in events(directory):
        match event["event"]:
            case "started" | "resumed":
                status, reason, exit_code = "LOST", "", ProcessLost.exit_code
            case "ended":
                status, reason, exit_code = event["status"], event["reason"], event["exit_code"]
            case "metrics":
                step = max(step, event["step"])
    result = directory / RESULT
    content = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
    return State(status, reason, exit_code, step, content)


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
    """Whether a process trains in this directory."""
    if not (directory / LOCK).exists():
        return False
    with locked(directory / LOCK, patience_s=0) as lock:
        return lock is None


def find(root: Path) -> Iterator[Path]:
    """Every run directory below a folder, the oldest first."""
    began = {path.parent: next(events(path.parent), ({"time": 0.0}, 0))[0]["time"] for path in root.rglob(JOURNAL)}
    yield from sorted(began, key=lambda directory: began[directory])
