"""Run directories rebuilt from MLflow, for runs whose own are gone: what a report reads, without weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..config import store
from ..config.addresses import sqlite_path
from ..config.monitor import goal_of
from ..errors import CheckpointError, ConfigError, ServerLost
from ..metrics.names import monitored
from ..runs import result as results
from ..runs.events import SYSTEM
from ..runs.history import curves
from ..runs.journal import CONFIG, EXPLAINED, MISTAKES, MLFLOW, OVERRIDES, PER_CLASS, RESULT, Journal, tracked_file
from ..runs.result import Result
from ..runs.summary import TAG
from . import server
from .answers import CallTimeout, reason_of
from .artifacts import Artifacts

#: Artefacts that are downloaded if MLflow has them.
FILES = (CONFIG, OVERRIDES, PER_CLASS, MISTAKES, EXPLAINED)
#: Runs of one request.
PAGE = 1000


def run(uri: str, run_id: str) -> Path:
    """The directory of a run, its own if it still exists.

    Errors: CheckpointError, also for the summary of a sweep; ServerLost.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = _connect(uri)
        entity = client.get_run(run_id)
        server.refuse_summary(entity)
        return _directory(client, uri, entity)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise CheckpointError(
                f"There is no run {run_id} in {uri}. Name another store with --uri, or give a run directory."
            ) from error
        raise _lost(uri, error) from error
    except CallTimeout as error:
        raise _lost(uri, error) from error


def experiment(uri: str, name: str) -> list[Path]:
    """The directories of all runs of an experiment, the oldest first; summaries of sweeps are none.

    Errors: CheckpointError, ServerLost.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = _connect(uri)
        entity = client.get_experiment_by_name(name)
        if entity is None:
            names = ", ".join(sorted(one.name for one in client.search_experiments()))
            raise CheckpointError(f"There is no experiment {name} in {uri}. It has: {names}")
        return [_directory(client, uri, one) for one in _runs(client, entity.experiment_id) if TAG not in one.data.tags]
    except (MlflowException, CallTimeout) as error:
        raise _lost(uri, error) from error


def _runs(client: Any, experiment_id: str) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], order_by=["attributes.start_time ASC"], max_results=PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _connect(uri: str) -> Any:
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise CheckpointError(f"The store {path} does not exist: no run was tracked there. Name another with --uri.")
    return server.connect(uri)


def _lost(uri: str, error: Exception) -> ServerLost:
    return ServerLost(f"{uri} does not answer: {reason_of(error)}. Start it, or give run directories.")


def _directory(client: Any, uri: str, entity: Any) -> Path:
    run_id = entity.info.run_id
    if (own := server.directory_in(entity.data.tags, run_id, uri)) is not None:
        return own
    artifacts = Artifacts(uri, entity.info.artifact_uri, run_id)
    folder = files.temporary_folder(f"runner-{run_id[:8]}-")
    have = artifacts.sizes()
    for name in FILES:
        if name in have:
            artifacts.fetch(name, have[name], folder / name)
    files.write_json(folder / tracked_file(MLFLOW), {"uri": uri, "run_id": run_id, "rebuilt": entity.info.run_name})
    _write_journal(client, entity, folder)
    if entity.info.status == "FINISHED":
        results.write(folder / RESULT, _result(entity, folder))
    return folder


def _write_journal(client: Any, entity: Any, folder: Path) -> None:
    journal = Journal(folder)
    journal.append("started", command=[])
    for one in entity.inputs.dataset_inputs:
        data = one.dataset
        with contextlib.suppress(ValueError, TypeError):
            profile = json.loads(data.profile)
            about = profile.pop("about", {})
            journal.append(
                "dataset", name=data.name, digest=data.digest, source=data.source, profile=profile, about=about
            )
    steps: dict[int, dict[str, float]] = {}
    for name in entity.data.metrics:
        if name.startswith(SYSTEM):
            # Their steps are not optimizer steps, and no report reads them.
            continue
        for point in client.get_metric_history(entity.info.run_id, name):
            steps.setdefault(point.step, {})[name] = point.value
    for step, values in sorted(steps.items()):
        journal.append("metrics", step=step, epoch=0, values=values)
    if entity.info.status != "RUNNING":
        reason = entity.data.tags.get("ended", "")
        journal.append("ended", status=entity.info.status, reason=reason, exit_code=0)


def _result(entity: Any, folder: Path) -> Result:
    """The result, from the metrics of a finished run."""
    metrics = entity.data.metrics
    config = None
    with contextlib.suppress(ConfigError):
        config = store.read(folder / CONFIG)
    train = config.train if config else cfg.Train()
    monitor = f"val/{monitored(train.monitor)}"
    validations = curves(folder).get(monitor, {}).values()
    named = {name: value for name, value in metrics.items() if name != results.MONITORED}
    return Result(
        final={name.partition("/")[2]: value for name, value in named.items() if name.startswith("final/")},
        test={name.partition("/")[2]: value for name, value in metrics.items() if name.startswith("test/")},
        monitor=monitor,
        best=results.best_of(metrics, validations, goal_of(train.monitor, train.goal, train.metrics)),
        seconds=((entity.info.end_time or entity.info.start_time) - entity.info.start_time) / 1000,
    )
