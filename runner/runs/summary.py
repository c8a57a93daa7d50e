"""The summary of a sweep: a folder next to its jobs whose journal MLflow receives as the parent of their runs."""

from __future__ import annotations

from pathlib import Path

from .. import terminal
from ..errors import CheckpointError
from .journal import JOURNAL, SWEEP, Journal, latest
from .sweep import NUMBERED, SUMMARY_RUN

#: The table of runs or configurations, in a summary's folder.
TABLE = "summary.csv"
#: Tag of a summary in MLflow, with the id of its sweep.
TAG = "runner.summary"


def is_summary(directory: Path) -> bool:
    """Whether a folder is the summary of a sweep, not a run that was trained."""
    directory = directory.absolute()
    return directory.name == SUMMARY_RUN and (directory.parent / SWEEP).is_file()


def of_job(directory: Path) -> Path | None:
    """The summary of the sweep that a run is a job of; None for other runs, and for sweeps that have none yet."""
    folder = directory.absolute().parent / SUMMARY_RUN
    is_job = NUMBERED.match(directory.absolute().name) and is_summary(folder)
    return folder if is_job and not folder.is_symlink() and (folder / JOURNAL).is_file() else None


def refuse(directory: Path) -> None:
    """Errors: CheckpointError for a summary, where a run is wanted."""
    if is_summary(directory):
        raise no_run(directory, terminal.place(directory.absolute().parent))


def no_run(name: object, sweep: str) -> CheckpointError:
    """The error for a summary where a run is wanted; `sweep`: the folder of its sweep."""
    return CheckpointError(
        f"{name} is the summary of the sweep {sweep}, not a run that was trained. Name one of the sweep's runs: "
        f"{terminal.command('runs', sweep)} lists them."
    )


def record(
    folder: Path, command: list[str], tags: dict[str, str], metrics: dict[str, float], end: tuple[str, str, int]
) -> None:
    """Record the contents of a summary, with its table, unless its journal ends with them.

    `end`: status, reason and exit code. Errors: OSError, Damaged.
    """
    status = dict(zip(("status", "reason", "exit_code"), end, strict=True))
    contents: dict[str, dict[str, object]] = {
        "tags": {"values": tags}, "metrics": {"step": 0, "epoch": 0, "values": metrics}, "ended": status,
    }  # fmt: skip
    has_ended = next(latest(folder, ("ended",)), None) is not None
    if all(fields.items() <= (next(latest(folder, (kind,)), None) or {}).items() for kind, fields in contents.items()):
        return
    journal = Journal(folder)
    if has_ended:
        journal.append("resumed", command=command)
    for kind, fields in contents.items():
        if kind == "ended":
            journal.artifact(TABLE)
        journal.append(kind, **fields)
