"""RUN: a run directory or an MLflow run id, wherever a command or a key takes one."""

from __future__ import annotations

from pathlib import Path

from .. import config as cfg
from .. import terminal
from ..config.addresses import KEY
from ..deploy.manifest import EXPORT, MANIFEST
from ..errors import CheckpointError
from ..runs import RUN_ID, summary
from ..runs.journal import CHECKPOINTS, CONFIG, JOURNAL


def directory_of(run: str, uri: str, key: str = KEY) -> Path:
    """The directory of a run; for an MLflow run id whose directory is gone, one rebuilt from MLflow.

    `key`: what the user writes before another `uri`. Errors: CheckpointError if there is no such run.
    """
    directory = local(run, uri, key)
    if not (directory / CONFIG).is_file():
        raise CheckpointError(
            f"There is no run {run or repr(run)}: it is neither a run directory nor an MLflow run id. "
            "`python -m runner runs` lists the runs of this folder."
        )
    return directory


def exported(run: str, uri: str, key: str = KEY) -> Path:
    """The directory of a run with its `export/`, or one that `export --output` wrote. Errors: CheckpointError."""
    directory = Path(run) if (Path(run) / EXPORT / MANIFEST).is_file() else directory_of(run, uri, key)
    if not (directory / EXPORT / MANIFEST).is_file():
        raise no_export(run, directory, uri)
    return directory


def no_export(run: str, directory: Path, uri: str, network: str | None = None) -> CheckpointError:
    """The error for a run, in this directory, that has no exported network, with the command that writes one."""
    words = ["--network", network] if network else []
    if (directory / JOURNAL).is_file() and not (directory / CHECKPOINTS).is_dir():
        return CheckpointError(f"{run} has neither an exported network nor a checkpoint. Give another run.")
    if (directory / JOURNAL).is_file():
        command = terminal.command("export", terminal.place(directory), *words)
        return CheckpointError(f"{run} has no exported network. Write one: {command}")
    # A directory that was fetched from MLflow goes with this process.
    named = run if RUN_ID.fullmatch(run) else "RUN_ID"
    words += [f"{KEY}{uri}"] if uri != cfg.Mlflow.uri else []
    return CheckpointError(
        f"{run} has no exported network: its directory is gone, and MLflow has its checkpoints. Write one, and name "
        f"the new folder: {terminal.command('export', named, *words, '--output', 'DIR')}"
    )


def local(source: str, uri: str, key: str = KEY) -> Path:
    """`source` as a path; an MLflow run id becomes a directory with that run.

    Errors: CheckpointError, also for the summary of a sweep.
    """
    path = Path(source)
    summary.refuse(path)
    if path.exists() or not RUN_ID.fullmatch(source):
        return path
    from . import server

    return server.fetch(uri, source, key)


def tracking_uri(config: cfg.Config) -> str:
    """Where MLflow run ids are looked up."""
    return config.tracking.uri if isinstance(config.tracking, cfg.Mlflow) else cfg.Mlflow.uri
