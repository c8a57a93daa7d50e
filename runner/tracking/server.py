"""A tracking server or an embedded store: connecting to it, and what it has of a run whose directory is gone."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ServerLost
from ..journal import CHECKPOINTS, CONFIG, OVERRIDES, tracked
from ..locks import locked

#: For the client: fail soon, whoever calls tries again or says so.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


def connect(uri: str) -> Any:
    """A client of a tracking server or store. Of an embedded store the folder is made first."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _first_use(path):
        if path is not None and not path.exists():
            _make(path)
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def _make(path: Path) -> None:
    """Make an embedded store beside its place and put it there when it is whole: half of one could not be opened."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        new = Path(folder) / path.name
        store = SqlAlchemyStore(f"sqlite:///{new}", (path.parent / "mlartifacts").resolve().as_uri())
        store.engine.dispose()
        os.replace(new, path)


def sqlite_path(uri: str) -> Path | None:
    """The file of an embedded store; None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextlib.contextmanager
def _first_use(path: Path | None) -> Iterator[None]:
    # MLflow 3.17: two processes that create one sqlite store at the same time break it.
    if path is None:
        yield
        return
    with locked(path.with_name(f"{path.name}.lock")):
        yield


def experiment_id(client: Any, uri: str, name: str) -> str:
    """The experiment of that name, made where it does not exist; an embedded store keeps artefacts beside itself."""
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    with _first_use(path):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (path.resolve().parent / "mlartifacts" / name).as_uri() if path else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another run made it a moment ago.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def fetch(uri: str, run_id: str) -> Path:
    """The directory of a run, or, where it is gone, one with what MLflow has of it; that one ends with this process.

    Errors: CheckpointError where MLflow has no such run or no checkpoint of it, ServerLost where it does not answer.
    """
    from mlflow.exceptions import MlflowException

    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise CheckpointError(f"There is no run {run_id}: neither a folder of that name nor the store {path} exists.")
    try:
        client = connect(uri)
        tags = client.get_run(run_id).data.tags
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise CheckpointError(
                f"There is no run {run_id} in {uri}. `python -m runner runs` lists the runs of this folder; name "
                "another store with tracking.uri=…"
            ) from error
        raise ServerLost(f"{uri} does not answer: {error}. Start it, or give the run's directory.") from error
    own = Path(tags.get("run_dir", ""))
    with contextlib.suppress(OSError, ValueError):
        if tracked(own).get("run_id") == run_id:
            return own
    folder = Path(tempfile.mkdtemp(prefix=f"runner-{run_id[:8]}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        _download(client, run_id, folder)
    except (MlflowException, OSError) as error:
        raise ServerLost(f"{uri} does not give the files of the run {run_id}: {error}. Try again.") from error
    return folder


def _download(client: Any, run_id: str, folder: Path) -> None:
    have = {item.path for place in ("", CHECKPOINTS) for item in client.list_artifacts(run_id, place)}
    tags = client.get_run(run_id).data.tags
    # The tag comes last: without it the upload was not complete.
    pointers = [name for name in ("final", "best", "last") if f"checkpoint.{name}" in tags]
    if CONFIG not in have or not pointers:
        raise CheckpointError(
            f"MLflow has no checkpoint of the run {run_id}, and its directory is gone. Checkpoints are uploaded with "
            "tracking.checkpoints=best, last or all."
        )
    for name in (CONFIG, OVERRIDES):
        if name in have:
            client.download_artifacts(run_id, name, str(folder))
    for name in pointers:
        target = folder / CHECKPOINTS / tags[f"checkpoint.{name}"]
        if not target.exists():
            place = folder / f"downloaded-{name}"
            place.mkdir()
            shutil.move(client.download_artifacts(run_id, f"{CHECKPOINTS}/{name}", str(place)), target)
        for pointer in {name, "last"}:
            (folder / CHECKPOINTS / pointer).write_text(target.name, encoding="utf-8")
