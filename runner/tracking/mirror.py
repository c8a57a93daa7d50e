"""Replaying a run's journal into MLflow.

A replay adds nothing twice: MLflow keeps one point for the same key, step, time and value, and a run is looked up by
its key before one is created.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..config import store
from ..errors import CheckpointError
from ..journal import CHECKPOINTS, CONFIG, MEASURED, OVERRIDES, TRACKED, events, mark, tracked
from . import server

#: MLflow's limits for one call.
MAX_METRICS, MAX_PARAMS, MAX_PARAM_LENGTH = 1000, 100, 6000
#: Tag by which a run is found again that was created by a call whose answer never came.
KEY = "runner.key"


class Mirror:
    """What of a run's journal MLflow has, and the way to send the rest."""

    def __init__(self, directory: Path, config: cfg.Config, tracking: cfg.Mlflow) -> None:
        self.directory, self.config, self.tracking = directory, config, tracking
        self.known = tracked(directory)
        if self.known.get("uri", tracking.uri) != tracking.uri:
            # The run goes to another server now: all of it. By its key it is found again where it was before.
            self.known = {"key": self.known["key"]}
        if "offset" in self.known and self.known.get("mark") != mark(directory, self.known["offset"]):
            # The journal lost its end with the power, and MLflow has points that will be computed again.
            self.known |= {"offset": 0, "has_lost": True}
        self._had: dict[tuple[str, int], float] | None = None
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The connection, opened at first use."""
        if self._client is None:
            self._client = server.connect(self.tracking.uri)
        return self._client

    @property
    def behind(self) -> bool:
        """Whether the journal has more than MLflow."""
        return next(events(self.directory, self.known.get("offset", 0)), None) is not None

    def replay(self) -> bool:
        """Send what the journal has and MLflow has not. Whether the run has ended."""
        from mlflow.exceptions import MlflowException

        try:
            return self._replay()
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                self._forget()
            raise

    def check(self) -> None:
        """Forget what was sent where MLflow has the run no more: its store was lost. Errors: MlflowException."""
        from mlflow.exceptions import MlflowException

        try:
            if "run_id" in self.known:
                self.client.get_run(self.known["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._forget()

    def _forget(self) -> None:
        self.known = {"key": self.known["key"]}
        self._remember(uri=self.tracking.uri)

    def _replay(self) -> bool:
        if "run_id" not in self.known:
            self._create()
        if not self.known["params_sent"]:
            self._send_params()
            self._remember(params_sent=True)
        if self.known.get("has_lost") and self._had is None:
            self._had = self._points()
        metrics: list[Any] = []
        offset = self.known["offset"]
        for event, offset in events(self.directory, self.known["offset"]):
            if event["event"] == "metrics":
                metrics += [metric for metric in _metrics(event) if not self._has(metric)]
                if len(metrics) < MAX_METRICS // 2:
                    continue
            self._send_metrics(metrics)
            metrics = []
            self._send(event)
            self._read_to(offset)
        self._send_metrics(metrics)
        if offset != self.known["offset"]:
            self._read_to(offset)
        return bool(self.known.get("ended"))

    def _points(self) -> dict[tuple[str, int], float]:
        """(name, step) → value of what MLflow has of the run."""
        run_id = self.known["run_id"]
        names = self.client.get_run(run_id).data.metrics
        history = ((name, point) for name in names for point in self.client.get_metric_history(run_id, name))
        return {(name, point.step): point.value for name, point in history}

    def _has(self, metric: Any) -> bool:
        """Whether MLflow has a point already that is computed again, at another time."""
        value = (self._had or {}).get((metric.key, metric.step))
        return value is not None and (metric.key in MEASURED or repr(value) == repr(metric.value))

    def _read_to(self, offset: int) -> None:
        self._remember(offset=offset, mark=mark(self.directory, offset))

    def _remember(self, **values: Any) -> None:
        self.known |= values
        files.write_json(self.directory / TRACKED, self.known)

    def _create(self) -> None:
        if "key" not in self.known:
            self._remember(key=uuid.uuid4().hex)
        self._remember(uri=self.tracking.uri)
        experiment = server.experiment_id(self.client, self.tracking.uri, self.config.name)
        found = self.client.search_runs([experiment], f"tags.`{KEY}` = '{self.known['key']}'")
        run = found[0] if found else self.client.create_run(
            experiment, run_name=run_name(self.config, self.directory), tags=self._tags()
        )  # fmt: skip
        self._remember(run_id=run.info.run_id, experiment_id=experiment, params_sent=False, offset=0)

    def _tags(self) -> dict[str, str]:
        return {
            KEY: self.known["key"],
            **names(self.config),
            "run_dir": str(self.directory.resolve()),
            **self.tracking.tags,
        }

    def _send_params(self) -> None:
        from mlflow.entities import Param

        params = [Param(key, value[:MAX_PARAM_LENGTH]) for key, value in parameters(self.config).items()]
        for begin in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.known["run_id"], params=params[begin : begin + MAX_PARAMS])
        for name in (CONFIG, OVERRIDES):
            self.client.log_artifact(self.known["run_id"], str(self.directory / name))

    def _send_metrics(self, metrics: list[Any]) -> None:
        for begin in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.known["run_id"], metrics=metrics[begin : begin + MAX_METRICS])

    def _send(self, event: dict[str, Any]) -> None:
        """Send one event that is not a batch of metrics."""
        run_id = self.known["run_id"]
        match event["event"]:
            case "resumed":
                self.client.update_run(run_id, status="RUNNING")
                self.known["ended"] = False
            case "tags":
                for key, value in event["values"].items():
                    self.client.set_tag(run_id, key, value)
            case "dataset":
                self.client.log_inputs(run_id, datasets=[_dataset(event)])
            case "checkpoint":
                self._send_checkpoint(event)
            case "artifact":
                path = self.directory / event["path"]
                if path.exists():
                    send = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
                    send(run_id, str(path), event["folder"] or None)
            case "model":
                self._send_model(self.directory / event["path"])
            case "ended":
                self.end(event)

    def end(self, event: dict[str, Any]) -> None:
        """Close the run as the event says."""
        if event["reason"]:
            self.client.set_tag(self.known["run_id"], "ended", event["reason"][:MAX_PARAM_LENGTH])
        self.client.set_terminated(self.known["run_id"], event["status"], round(1000 * event["time"]))
        self.known["ended"] = True

    def _send_model(self, folder: Path) -> None:
        """Log an export folder as the run's model, where it still is one."""
        from ..deploy import serving

        # An export is replaced whole: the new one has an event of its own, further on in the journal.
        with contextlib.suppress(CheckpointError, FileNotFoundError):
            serving.log_model(self.client, self.known["experiment_id"], self.known["run_id"], folder)

    def _send_checkpoint(self, event: dict[str, Any]) -> None:
        """Upload a checkpoint under the names that `tracking.checkpoints` asks for, where it still exists."""
        upload = self.tracking.checkpoints
        names = [
            *(["best"] if event["better"] else []),
            *(["last"] if upload in (cfg.Upload.last, cfg.Upload.all) else []),
            *([event["name"]] if upload is cfg.Upload.all else []),
        ]
        if event.get("final"):
            # Nothing that training could go on from.
            names = ["final"]
        if upload is cfg.Upload.none:
            return
        folder = self.directory / CHECKPOINTS / event["name"]
        for name in names:
            # The trainer drops older checkpoints whenever it likes: newer ones follow in the journal.
            with contextlib.suppress(FileNotFoundError):
                for path in sorted(folder.iterdir()):
                    self.client.log_artifact(self.known["run_id"], str(path), f"{CHECKPOINTS}/{name}")
                self.client.set_tag(self.known["run_id"], f"checkpoint.{name}", event["name"])


def names(config: cfg.Config) -> dict[str, str]:
    """What runs are told apart by in MLflow: tags to search for, parameters to compare and draw."""
    return {
        "mode": config.mode.kind,
        "compression": config.compression.kind,
        "model": cfg.model_name(config.model),
        "data": config.data.kind,
    }


def parameters(config: cfg.Config) -> dict[str, str]:
    """Every leaf of the config by its dotted name; which choice a group has by the name of the group alone."""
    leaves = store.flatten(config)
    return {key.removesuffix(".kind"): value for key, value in leaves.items()} | names(config)


def run_name(config: cfg.Config, directory: Path) -> str:
    """`<mode>-<compression>-<model>-<short id>`, where a job of a sweep has `<sweep>-<number>` for a short id."""
    short = directory.name.rpartition("_")[2]
    if directory.parent.parent.name == "sweeps":
        short = f"{directory.parent.name}-{directory.name.partition('_')[0]}"
    return f"{config.mode.kind}-{config.compression.kind}-{cfg.model_name(config.model)}-{short}"


def _metrics(event: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Metric

    time_ms = round(1000 * event["time"])
    return [Metric(key, value, time_ms, step_of(key, event["step"])) for key, value in event["values"].items()]


def step_of(key: str, step: int) -> int:
    """The step under which MLflow has a metric: results are of the whole run, and points at 0 are drawn as bars."""
    return 0 if key.startswith(("test/", "final/")) else step


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
