"""RUN: a run directory or an MLflow run id, wherever a command or a key takes one."""

from __future__ import annotations

from pathlib import Path

from .. import config as cfg
from .. import terminal
from ..deploy.manifest import EXPORT, MANIFEST
from ..errors import CheckpointError
from ..runs import RUN_ID, summary
from ..runs.journal import CONFIG


def directory_of(run: str, uri: str) -> Path:
    """The directory of a run; for an MLflow run id whose directory is gone, one rebuilt from MLflow.

    Errors: CheckpointError if there is no such run.
    """
    directory = local(run, uri)
    if not (directory / CONFIG).is_file():
        raise CheckpointError(
            f"There is no run {run or repr(run)}: it is neither a run directory nor an MLflow run id. "
            "`python -m runner runs` lists the runs of this folder."
        )
    return directory


def exported(run: str, uri: str) -> Path:
    """The directory of a run with its `export/`, or one that `export --output` wrote. Errors: CheckpointError."""
    directory = Path(run) if (Path(run) / EXPORT / MANIFEST).is_file() else directory_of(run, uri)
    if not (directory / EXPORT / MANIFEST).is_file():
        raise CheckpointError(f"{run} has no exported network. Write one: {terminal.command('export', run)}")
    return directory


def local(source: str, uri: str) -> Path:
    """`source` as a path; an MLflow run id becomes a directory with that run.

    Errors: CheckpointError, also for the summary of a sweep.
    """
    path = Path(source)
    summary.refuse(path)
    if path.exists() or not RUN_ID.fullmatch(source):
        return path
    from . import server

    return server.fetch(uri, source)


def tracking_uri(config: cfg.Config) -> str:
    """Where MLflow run ids are looked up."""
    return config.tracking.uri if isinstance(config.tracking, cfg.Mlflow) else cfg.Mlflow.uri
