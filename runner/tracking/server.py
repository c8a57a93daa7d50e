"""Connecting to a tracking server or embedded store, and fetching runs whose directories are gone."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import files, terminal
from ..config.addresses import KEY, require_store, sqlite_path, sqlite_uri
from ..errors import CheckpointError, ServerLost, UserError
from ..processes import locked
from ..runs import summary
from ..runs.journal import CHECKPOINT_FILES, CHECKPOINT_NAME, CHECKPOINTS, CONFIG, OVERRIDES, tracked
from . import embedded
from .answers import CallTimeout, Refused, Timed, reason_of
from .artifacts import Artifacts
from .stores import resolved

#: Settings of the client: fail soon, because callers retry or report it.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    # A server may ask to be retried in an hour.
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def connect(uri: str, make: bool = True) -> Any:
    """A client of a tracking server or store, whose calls have deadlines.

    An embedded store's file is created if it does not exist; its folder only with `make`. Errors: Refused for a file
    that is not a store, or one of another version of MLflow; ConfigError for an address that nothing can be sent to;
    MLflow's own errors.
    """
    require_store(uri)
    # MLflow keeps a connection for each address: a relative one would lead to the store of an earlier directory.
    uri = resolved(uri)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = sqlite_path(uri)
    if path is not None:
        if not path.parent.is_dir() and not make:
            there = sqlite_uri(Path("/NEW/PLACE", path.name))
            raise Refused(
                f"The store {path} is gone, with its folder. If the project was moved or renamed, name the "
                f"store's new place: {terminal.command('sync', 'RUN', '--uri', there)}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
    with _first_use(path):
        if path is not None and not path.exists():
            _make(path)
        elif path is not None:
            embedded.check(path, _get_latest_schema_revision())
            embedded.follow_move(path)
        try:
            client = Timed(MlflowClient(tracking_uri=uri))
            client.search_experiments(max_results=1)
        except MlflowException as error:
            if "database schema" in str(error):
                raise embedded.of_another_version(uri) from error
            raise
    return client


def _make(path: Path) -> None:
    """Create an embedded store atomically: under another name, and renamed when it is complete."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with files.partial_file(path) as new:
        store = SqlAlchemyStore(sqlite_uri(new), embedded.artifacts_of(path).as_uri())
        store.engine.dispose()


@contextlib.contextmanager
def _first_use(path: Path | None) -> Iterator[None]:
    # MLflow 3.17: two processes that create one sqlite store at the same time break it.
    if path is None:
        yield
        return
    with locked(path.with_name(f"{path.name}.lock")):
        yield


def experiment_id(client: Any, uri: str, name: str) -> str:
    """The experiment of that name, created if it does not exist; an embedded store keeps artefacts next to itself."""
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    with _first_use(path):
        entity = client.get_experiment_by_name(name)
        if entity is not None:
            refuse_deleted(entity, uri)
            return str(entity.experiment_id)
        location = (embedded.artifacts_of(path) / name).as_uri() if path else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another run has just created it.
            entity = client.get_experiment_by_name(name)
            if entity is None:
                raise
            return str(entity.experiment_id)


def refuse_deleted(experiment: Any, uri: str) -> None:
    """Errors: Refused for an experiment that was deleted in MLflow, which takes no runs."""
    if experiment.lifecycle_stage == "deleted":
        raise Refused(
            f"The experiment '{experiment.name}' was deleted in MLflow ({uri}). Restore it: "
            f"MLFLOW_TRACKING_URI={shlex.quote(uri)} "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}; or train under another name: "
            "name=NAME"
        )


def fetch(uri: str, run_id: str, key: str = KEY) -> Path:
    """The directory of a run or, if it is gone, what MLflow has of it in one that ends with this process.

    `key`: what the user writes before another `uri`.
    Errors: CheckpointError if MLflow has no such run or no checkpoint of it, or if it is the summary of a sweep;
    ServerLost if it does not answer.
    """
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise CheckpointError(
            f"There is no run {run_id}: neither a folder of that name nor the store {path} exists. Name another store: "
            f"{key}URI"
        )
    try:
        entity = connect(uri).get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise CheckpointError(
                f"There is no run {run_id} in {uri}. `python -m runner runs` lists the runs of this folder.\n"
                f"Name another store: {key}URI"
            ) from error
        raise ServerLost(
            f"{uri} does not answer: {reason_of(error)}. Start it, or give the run's directory."
        ) from error
    except CallTimeout as error:
        raise ServerLost(
            f"{uri} does not answer: {reason_of(error)}. Start it, or give the run's directory."
        ) from error
    refuse_summary(entity)
    if (own := directory_in(entity.data.tags, run_id, uri)) is not None:
        return own
    folder = files.temporary_folder(f"runner-{run_id[:8]}-")
    try:
        _download(Artifacts(uri, entity.info.artifact_uri, run_id), entity.data.tags, folder)
    except (MlflowException, OSError, CallTimeout) as error:
        raise ServerLost(
            f"{uri} does not give the files of the run {run_id}: {reason_of(error)}. Try again."
        ) from error
    return folder


def refuse_summary(entity: Any) -> None:
    """Errors: CheckpointError for the run of a sweep's summary."""
    tags = entity.data.tags
    if summary.TAG in tags:
        raise summary.no_run(entity.info.run_id, tags.get("sweep.directory", tags[summary.TAG]))


def directory_in(tags: dict[str, str], run_id: str, uri: str) -> Path | None:
    """The directory that a run's tags name, if its own file confirms that it is that run's."""
    own = Path(tags.get("run_dir", ""))
    with contextlib.suppress(OSError, ValueError, UserError):
        record = tracked(own)
        if record.get("run_id") == run_id and resolved(str(record.get("uri"))) == resolved(uri):
            return own
    return None


def _download(artifacts: Artifacts, tags: dict[str, str], folder: Path) -> None:
    have = artifacts.sizes()
    # The tag is sent last: without it the upload is incomplete.
    named = {name: tags[f"checkpoint.{name}"] for name in ("final", "best", "last") if f"checkpoint.{name}" in tags}
    if CONFIG not in have or not named:
        raise CheckpointError(
            "MLflow has no checkpoint of that run, and its directory is gone. Checkpoints are uploaded with "
            "tracking.checkpoints=best, last or all."
        )
    for name in (CONFIG, OVERRIDES):
        if name in have:
            artifacts.fetch(name, have[name], folder / name)
    for pointer, checkpoint in named.items():
        if not CHECKPOINT_NAME.fullmatch(checkpoint):
            raise CheckpointError(f"MLflow names the checkpoint {checkpoint!r} of that run, which is not one.")
        target = folder / CHECKPOINTS / checkpoint
        if not target.exists():
            target.mkdir(parents=True)
            there = artifacts.sizes(f"{CHECKPOINTS}/{pointer}")
            for part in CHECKPOINT_FILES:
                if (path := f"{CHECKPOINTS}/{pointer}/{part}") in there:
                    artifacts.fetch(path, there[path], target / part)
        for name in {pointer, "last"}:
            (folder / CHECKPOINTS / name).write_text(checkpoint, encoding="utf-8")
