"""Brings the summary of a sweep, its own run in MLflow, up to date with the sweep's jobs, and delivers it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import config as cfg
from .. import files
from ..config import store
from ..launch.command import Command
from ..report import summary as contents
from ..report.subject import Run
from ..runs import summary, sweep
from ..runs.journal import CONFIG, MLFLOW
from ..terminal import screen
from ..tracking import stores, tracker
from ..tracking import summary as tracked_summary
from . import end_of_sweep


def update(directory: Path, jobs: Sequence[Run], uri: str | None = None) -> Path | None:
    """Bring the summary of a sweep up to date; returns its folder, None where no job goes to MLflow or one is running.

    `uri`: the store that all jobs are sent to, tracked before or not. Errors: OSError, Damaged, ForeignPath.
    """
    if any(run.state.status == "RUNNING" for run in jobs):
        return None
    for run in jobs:
        tracking = run.config.tracking if run.config else None
        if run.config and uri and not isinstance(tracking, cfg.Mlflow):
            tracking = cfg.Mlflow(uri=uri)
        if run.config and isinstance(tracking, cfg.Mlflow):
            folder = tracked_summary.prepare(directory, run.config, tracking)
            break
    else:
        return None
    swept = sweep.read(directory)
    content = contents.of(jobs, swept, directory)
    files.write_text(folder / summary.TABLE, content.table)
    summary.record(folder, ["-m", *swept.overrides], content.tags, content.metrics, content.end)
    return folder


def deliver(command: Command, directory: Path, jobs: Sequence[Run]) -> None:
    """Send the summary of a sweep that has ended on its way; whatever forbids that is a warning."""
    with end_of_sweep.errors_as_warnings(screen(), "no summary of the sweep in MLflow"):
        folder = update(directory, jobs)
        if folder is None or not stores.Delivery(folder).behind:
            return
        settings = store.read(folder / CONFIG).tracking.trackers[MLFLOW]
        # The folder of a resumed sweep may be foreign.
        tracker.agree(folder, MLFLOW, settings)
        command.mirrors.follow(folder, MLFLOW, settings)
        command.mirrors.ended(folder, None)
