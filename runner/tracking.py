"""MLflow's mirror of a run: a process of its own replays the journal, so that training never waits for a server.

`python -m runner.tracking RUN PARENT` follows the journal until the run has ended, or until the process PARENT is gone.
A replay adds nothing twice: MLflow keeps one point for the same key, step, time and value.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import config as cfg
from . import files
from .config import store
from .journal import CONFIG, TRACKED, Journal, events

log = logging.getLogger("runner.tracking")

#: Seconds between two looks at the journal, and the longest wait after a failure.
POLL_S, RETRY_S = 0.5, 30.0
#: MLflow's limits for one call.
MAX_METRICS, MAX_PARAMS, MAX_PARAM_LENGTH = 1000, 100, 6000
STATUSES = {"FINISHED", "FAILED", "KILLED"}


def main() -> None:
    """Follow a run to its end."""
    directory, parent = Path(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C and SLURM's SIGTERM reach every process of the job: this one ends when the run has.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Training has the first claim on every core.
    os.nice(19)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    config = store.read(directory / CONFIG)
    assert isinstance(config.tracking, cfg.Mlflow)
    mirror = Mirror(directory, config, config.tracking)
    wait = POLL_S
    while True:
        orphaned = os.getppid() != parent
        try:
            ended = mirror.replay()
            wait = POLL_S
        except Exception as error:
            log.warning("not delivered yet, trying again in %.0f s: %s", wait, error)
            ended, wait = False, min(2 * wait, RETRY_S)
        if ended or (orphaned and wait > POLL_S):
            return
        if orphaned:
            Journal(directory).append("ended", status="FAILED", reason="the command that supervised the run is gone")
            continue
        time.sleep(wait)


class Mirror:
    """What of a run's journal MLflow has, and the way to send the rest."""

    def __init__(self, directory: Path, config: cfg.Config, tracking: cfg.Mlflow) -> None:
        self.directory, self.config, self.tracking = directory, config, tracking
        path = directory / TRACKED
        self.known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The connection, opened at first use."""
        if self._client is None:
            self._client = connect(self.tracking.uri)
        return self._client

    def replay(self) -> bool:
        """Send what the journal has and MLflow has not. Whether the run has ended."""
        if "run_id" not in self.known:
            self._create()
        if not self.known["params_sent"]:
            self._send_params()
            self._remember(params_sent=True)
        metrics: list[Any] = []
        ended = False
        offset = self.known["offset"]
        for event, offset in events(self.directory, self.known["offset"]):
            if event["event"] == "metrics":
                metrics += _metrics(event)
                if len(metrics) < MAX_METRICS // 2:
                    continue
            self._send_metrics(metrics)
            metrics = []
            ended = self._send(event) or ended
            self._remember(offset=offset)
        self._send_metrics(metrics)
        if offset != self.known["offset"]:
            self._remember(offset=offset)
        return ended

    def _remember(self, **values: Any) -> None:
        self.known |= values
        files.write_json(self.directory / TRACKED, self.known)

    def _create(self) -> None:
        experiment = experiment_id(self.client, self.tracking.uri, self.config.name)
        tags = {
            "mode": self.config.mode.kind,
            "compression": self.config.compression.kind,
            "model": cfg.model_name(self.config.model),
            "data": self.config.data.kind,
            "run_dir": str(self.directory),
            **self.tracking.tags,
        }
        run = self.client.create_run(experiment, run_name=run_name(self.config, self.directory), tags=tags)
        self._remember(
            run_id=run.info.run_id, experiment_id=experiment, uri=self.tracking.uri, params_sent=False, offset=0
        )

    def _send_params(self) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:MAX_PARAM_LENGTH]) for key, value in store.flatten(self.config).items()]
        for begin in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.known["run_id"], params=params[begin : begin + MAX_PARAMS])

    def _send_metrics(self, metrics: list[Any]) -> None:
        for begin in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.known["run_id"], metrics=metrics[begin : begin + MAX_METRICS])

    def _send(self, event: dict[str, Any]) -> bool:
        """Send one event that is not a batch of metrics. Whether it is the end."""
        run_id = self.known["run_id"]
        match event["event"]:
            case "tags":
                for key, value in event["values"].items():
                    self.client.set_tag(run_id, key, value)
            case "dataset":
                self.client.log_inputs(run_id, datasets=[_dataset(event)])
            case "artifact":
                path = self.directory / event["path"]
                send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
                send(run_id, str(path), event["folder"] or None)
            case "ended":
                assert event["status"] in STATUSES
                if event["reason"]:
                    self.client.set_tag(run_id, "ended", event["reason"][:MAX_PARAM_LENGTH])
                self.client.set_terminated(run_id, event["status"], round(1000 * event["time"]))
                return True
        return False


def run_name(config: cfg.Config, directory: Path) -> str:
    """`<mode>-<compression>-<model>-<short id>`."""
    short = directory.name.rpartition("_")[2]
    if short.isdigit() and "_" not in directory.name:
        # A job of a sweep: its folder is the number in the sweep's.
        short = f"{directory.parent.name.rpartition('_')[2]}-{short}"
    return f"{config.mode.kind}-{config.compression.kind}-{cfg.model_name(config.model)}-{short}"


def connect(uri: str) -> Any:
    """A client of a tracking server or store. Of an embedded store the folder is made first."""
    from mlflow.tracking import MlflowClient

    path = sqlite_path(uri)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    with _first_use(path):
        client = MlflowClient(tracking_uri=uri)
        client.search_experiments(max_results=1)
    return client


def sqlite_path(uri: str) -> Path | None:
    """The file of an embedded store; None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextlib.contextmanager
def _first_use(path: Path | None) -> Iterator[None]:
    # MLflow 3.17: two processes that create one sqlite store at the same time break it.
    if path is None:
        yield
        return
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
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


def _metrics(event: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    time_ms = round(1000 * event["time"])
    return [Metric(key, value, time_ms, event["step"]) for key, value in event["values"].items()]


def _dataset(event: dict[str, Any]) -> Any:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"],
        digest=event["digest"],
        source_type="local",
        source=json.dumps({"uri": event["source"]}),
        profile=json.dumps(event["profile"]),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


if __name__ == "__main__":
    main()
