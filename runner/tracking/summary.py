"""The summary of a sweep in MLflow: a run of its own, which its jobs' runs name as their parent."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as cfg
from .. import files
from ..config import store
from ..errors import ConfigError, Damaged, ForeignPath, ServerLost
from ..processes import locked
from ..runs import summary, sweep
from ..runs.journal import CONFIG, JOURNAL, MLFLOW, RANKS, Journal, tracked, tracking_lock
from . import tracker
from .answers import Refused

if TYPE_CHECKING:
    from .mlflow import Mirror

#: Tag by which MLflow's pages fold a run below another one.
PARENT = "mlflow.parentRunId"


def begin(directory: Path, config: cfg.Config) -> None:
    """Begin the summary of a sweep, one of whose jobs this command is about to train; it goes to the same store.

    A job whose config has no MLflow begins none. Whatever forbids it fails no job: the end of the sweep tries again.
    """
    if not isinstance(config.tracking, cfg.Mlflow):
        return
    own = _config_of(config, config.tracking)
    with contextlib.suppress(OSError, ConfigError, Damaged, ForeignPath):
        folder = _folder(directory)
        # Who holds it is creating or delivering the summary.
        with locked(folder / tracking_lock(MLFLOW), patience_s=0) as lock:
            if lock is not None and _write(folder, own):
                tracker.begin(folder, MLFLOW, own.tracking.trackers[MLFLOW])


def prepare(directory: Path, config: cfg.Config, tracking: cfg.Mlflow) -> Path:
    """The folder of a sweep's summary, made from the config of a job where there is none; nothing is trusted by that.

    Errors: OSError, ForeignPath, Damaged.
    """
    folder = _folder(directory)
    if not (folder / CONFIG).is_file():
        _write(folder, _config_of(config, tracking))
    return folder


def _folder(directory: Path) -> Path:
    folder = files.inside(directory, sweep.SUMMARY_RUN)
    files.refuse_links(folder)
    (folder / RANKS).mkdir(parents=True, exist_ok=True)
    return folder


def _config_of(config: cfg.Config, tracking: cfg.Mlflow) -> cfg.Config:
    """The config of a summary: its experiment, store and tags are those of a job."""
    return replace(config, tracking=replace(tracking, also={}, note=None, register=None))


def _write(folder: Path, own: cfg.Config) -> bool:
    """Write what the delivery of a summary reads. Returns whether that has changed."""
    if (folder / JOURNAL).is_file():
        with contextlib.suppress(ConfigError, Damaged):
            if store.read(folder / CONFIG).tracking == own.tracking:
                return False
    else:
        Journal(folder).append("started", command=["-m", *sweep.read(folder.parent).overrides])
    store.write(own, folder / CONFIG)
    return True


def parent_of(mirror: Mirror, is_new: bool) -> str | None:
    """The id of the run in MLflow that a job's run belongs to, its sweep's summary in the same store; None without one.

    For a run that `is_new` the summary is looked up in the store, and created if the store does not have it. Errors:
    ServerLost while another process creates it; MLflow's own errors.
    """
    folder = summary.of_job(mirror.directory)
    # What is wrong with a summary is said when it is delivered itself.
    with contextlib.suppress(ConfigError, Damaged, ForeignPath):
        if folder is None or (record := tracked(folder)).get("uri") != mirror.uri:
            return None
        if not is_new and "run_id" in record:
            return record["run_id"]
        files.refuse_links(folder)
        with locked(folder / tracking_lock(MLFLOW), patience_s=0) as lock:
            if lock is not None:
                return _created(mirror, folder)
        if "run_id" in record:
            return record["run_id"]
        raise ServerLost(f"Another process is creating the summary of the sweep {folder.parent}. Repeat the command.")
    return None


def _created(mirror: Mirror, folder: Path) -> str | None:
    config = store.read(folder / CONFIG)
    if not isinstance(config.tracking, cfg.Mlflow):
        return None
    parent = type(mirror)(folder, config, config.tracking, mirror.tell)
    # One that was deleted in MLflow can be restored; its id stays the same.
    with contextlib.suppress(Refused):
        parent.find_or_create()
    return parent.values.get("run_id")
