"""MLflow: replaying a run's journal into a tracking server or an embedded store.

A replay adds nothing twice: MLflow keeps one point for the same key, step, time and value, and a run is looked up by
its key before one is created.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..errors import CheckpointError, ForeignPath
from ..runs import summary
from ..runs.journal import CHECKPOINT_FILES, CHECKPOINT_NAME, CHECKPOINTS, CONFIG, MEASURED, OVERRIDES, events
from . import server
from . import summary as summaries
from .answers import Refused, is_final, reason_of
from .artifacts import Artifacts
from .entities import dataset_of, metrics_of
from .naming import checkpoint_names, identity, parameters, run_name
from .stores import Delivery

#: MLflow's limits for one call.
MAX_METRICS, MAX_PARAMS, MAX_PARAM_LENGTH = 1000, 100, 6000
#: MLflow's status for statuses of a run that it lacks.
AS_ENDED = {"STOPPED_EARLY": "KILLED"}
#: Tag that identifies a run whose creation was never confirmed.
KEY = "runner.key"
#: Tag that MLflow shows as the description of a run.
NOTE = "mlflow.note.content"


class Mirror:
    """A run in MLflow: tracks what was delivered of its journal, and sends the rest."""

    def __init__(self, directory: Path, config: cfg.Config, settings: cfg.Mlflow, tell: Callable[[str], None]) -> None:
        """The run is sent to the store that its file names; `tell` reports what can never be sent."""
        self.directory, self.config, self.settings, self.tell = directory, config, settings, tell
        self.tracked = Delivery(directory)
        self.uri = self.tracked.uri or self.tracked.switch_to(settings.uri)
        self.values = self.tracked.values
        self._make = not self.tracked.moved and "run_id" not in self.values
        if self.tracked.is_of_another_journal:
            # The store has points that will be computed again.
            self.values |= {"offset": 0, "has_lost": True}
        self._had: dict[tuple[str, int], float] | None = None
        self._client: Any = None
        self._artifacts: Artifacts | None = None
        """Where the store has the run's files; None until the run was found in it."""

    @property
    def client(self) -> Any:
        """The connection, opened on first use."""
        if self._client is None:
            self._client = server.connect(self.uri, self._make)
        return self._client

    @property
    def place(self) -> str:
        """The store."""
        return self.uri

    @property
    def behind(self) -> bool:
        """Whether the journal is ahead of the store."""
        return self.tracked.behind

    def replay(self) -> bool:
        """Send what the store lacks. Returns whether the run has ended.

        Errors: Refused if retrying is useless; MLflow's own errors, and CallTimeout.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.check()
            return self._replay()
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self._is_lost():
                return self._replay()
            if is_final(error):
                raise Refused(f"{self.uri} refuses {os.path.relpath(self.directory)}: {reason_of(error)}.") from error
            raise

    def check(self) -> None:
        """Check, once, that the run with this id in the store is this one; it is created again if it is gone.

        Errors: Refused for a run that was deleted; MLflow's own errors.
        """
        from mlflow.exceptions import MlflowException

        if self._artifacts is not None or "run_id" not in self.values:
            return
        run_id = self.values["run_id"]
        try:
            stored_run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self.tracked.reset()
            return
        if stored_run.data.tags.get(KEY) != self.values["key"]:
            self.tracked.reset()
            return
        server.refuse_deleted(self.client.get_experiment(stored_run.info.experiment_id), self.uri)
        if stored_run.info.lifecycle_stage == "deleted":
            raise Refused(
                f"The run {run_id} was deleted in MLflow ({self.uri}). Restore it: "
                f"MLFLOW_TRACKING_URI={shlex.quote(self.uri)} mlflow runs restore --run-id {run_id}; or "
                "leave it: its run directory has everything"
            )
        self._found(stored_run)

    def _is_lost(self) -> bool:
        """Whether the store was lost and recreated, and so lacks the run, which is then created again."""
        had, self._artifacts = self.values.get("run_id"), None
        self.check()
        return had is not None and "run_id" not in self.values

    def _replay(self) -> bool:
        if "run_id" not in self.values:
            self._create()
        if not self.values["params_sent"]:
            if not summary.is_summary(self.directory):
                self._send_params()
            self.tracked.update(params_sent=True)
        if self.values.get("has_lost") and self._had is None:
            self._had = self._points()
        metrics: list[Any] = []
        offset = self.values["offset"]
        for event, offset in events(self.directory, self.values["offset"]):
            if event["event"] == "metrics":
                metrics += [metric for metric in metrics_of(event) if not self._has(metric)]
                if len(metrics) < MAX_METRICS // 2:
                    continue
            self._send_metrics(metrics)
            metrics = []
            self._send(event)
            self.tracked.read_to(offset)
        self._send_metrics(metrics)
        if offset != self.values["offset"]:
            self.tracked.read_to(offset)
        return bool(self.values.get("ended"))

    def _points(self) -> dict[tuple[str, int], float]:
        """(name, step) → value of the run's metrics in MLflow."""
        run_id = self.values["run_id"]
        names = self.client.get_run(run_id).data.metrics
        history = ((name, point) for name in names for point in self.client.get_metric_history(run_id, name))
        return {(name, point.step): point.value for name, point in history}

    def _has(self, metric: Any) -> bool:
        """Whether MLflow already has a point that was computed again, at another time."""
        value = (self._had or {}).get((metric.key, metric.step))
        return value is not None and (metric.key in MEASURED or repr(value) == repr(metric.value))

    def find_or_create(self) -> None:
        """Create the run if the store does not have it. Errors: Refused for one that was deleted; MLflow's own."""
        self.check()
        if "run_id" not in self.values:
            self._create()

    def _create(self) -> None:
        parent = summaries.parent_of(self, is_new=True)
        # If the response is lost, the run is found again by its key.
        self.tracked.write()
        experiment = server.experiment_id(self.client, self.uri, self.config.name)
        same = self.client.search_runs([experiment], f"tags.`{KEY}` = '{self.values['key']}'")
        run = same[0] if same else self.client.create_run(
            experiment, run_name=run_name(self.config, self.directory), tags=self._tags(parent)
        )  # fmt: skip
        self.tracked.update(run_id=run.info.run_id, experiment_id=experiment, params_sent=False, offset=0)
        self._found(run)

    def _found(self, run: Any) -> None:
        """Note where the store has the run's files, and tell it where the run is and what it belongs to.

        Errors: ForeignPath.
        """
        self._artifacts = Artifacts(self.uri, run.info.artifact_uri, run.info.run_id)
        if run.data.tags.get("run_dir") != self._place:
            self.client.set_tag(run.info.run_id, "run_dir", self._place)
        parent = summaries.parent_of(self, is_new=False)
        if parent and run.data.tags.get(summaries.PARENT) != parent:
            self.client.set_tag(run.info.run_id, summaries.PARENT, parent)

    @property
    def _place(self) -> str:
        return files.writable(str(self.directory.resolve()))

    def _tags(self, parent: str | None) -> dict[str, str]:
        return {
            **self._own_tags,
            KEY: self.values["key"],
            **identity(self.config, self.directory),
            **({summaries.PARENT: parent} if parent else {}),
            "run_dir": self._place,
        }

    @property
    def _own_tags(self) -> dict[str, str]:
        note = self.settings.note
        return self.settings.tags | ({} if note is None else {NOTE: note})

    def _send_params(self) -> None:
        from mlflow.entities import Param

        run_id = self.values["run_id"]
        have = self.client.get_run(run_id).data.params
        wanted = {key: value[:MAX_PARAM_LENGTH] for key, value in parameters(self.config).items()}
        params = [Param(key, value) for key, value in wanted.items() if key not in have]
        for begin in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(run_id, params=params[begin : begin + MAX_PARAMS])
        for key, value in wanted.items():
            # MLflow refuses to change a parameter: a run that was extended gets a tag instead.
            if have.get(key, value) != value:
                self.client.set_tag(run_id, f"resumed.{key}", value)
        for name in (CONFIG, OVERRIDES):
            self._upload(name, "")

    def _send_metrics(self, metrics: list[Any]) -> None:
        for begin in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.values["run_id"], metrics=metrics[begin : begin + MAX_METRICS])

    def _send(self, event: dict[str, Any]) -> None:
        """Send one event other than a batch of metrics."""
        run_id = self.values["run_id"]
        match event["event"]:
            case "resumed":
                self.client.update_run(run_id, status="RUNNING")
                have = self.client.get_run(run_id).data.tags
                if "ended" in have:
                    # The reason of an earlier stop no longer applies.
                    self.client.delete_tag(run_id, "ended")
                for key, value in self._own_tags.items():
                    if have.get(key) != value:
                        self.client.set_tag(run_id, key, value)
                self.values["ended"] = False
            case "tags":
                for key, value in event["values"].items():
                    self.client.set_tag(run_id, key, files.writable(value))
            case "dataset":
                self.client.log_inputs(run_id, datasets=[dataset_of(event)])
            case "checkpoint":
                self._send_checkpoint(event)
            case "artifact":
                self._upload(event["path"], event["folder"])
            case "model":
                self._send_model(event["path"])
            case "ended":
                self.end(event)

    def end(self, event: dict[str, Any]) -> None:
        """Close the run as the event says."""
        if event["reason"]:
            self.client.set_tag(self.values["run_id"], "ended", event["reason"][:MAX_PARAM_LENGTH])
        status = AS_ENDED.get(event["status"], event["status"])
        self.client.set_terminated(self.values["run_id"], status, round(1000 * event["time"]))
        self.values["ended"] = True
        if event["status"] == "FINISHED":
            self._register()

    def _register(self) -> None:
        """Register the export of a complete run, if that was asked for; a refusal of the registry is reported."""
        from mlflow.exceptions import MlflowException

        from . import registry

        if (name := self.settings.register) is None:
            return
        try:
            registry.register(
                self.client, name, self.config, self.values["experiment_id"], self.values["run_id"], self.tell
            )
        except MlflowException as error:
            if not is_final(error):
                raise
            self.tell(f"not registered as {name}: {reason_of(error)}")

    def _upload(self, name: str, folder: str) -> None:
        """Upload a file or folder of the run directory, if it still exists, to a folder of the run's artefacts."""
        assert self._artifacts is not None
        try:
            self._artifacts.send_named(self.directory, name, folder)
        except ForeignPath as error:
            self.tell(f"not sent: {error}")

    def _send_model(self, name: str) -> None:
        """Log an export folder as the run's model, if it still exists."""
        from . import logged_model

        # An export is replaced as a whole, and the new one has a later event in the journal.
        with contextlib.suppress(CheckpointError, FileNotFoundError):
            try:
                folder = files.inside(self.directory, name)
                logged_model.log_model(self.client, self.values["experiment_id"], self.values["run_id"], folder)
                if self.values.get("ended"):
                    # It was exported again in the meantime.
                    self._register()
            except ForeignPath as error:
                self.tell(f"not sent: {error}")

    def _send_checkpoint(self, event: dict[str, Any]) -> None:
        """Upload a checkpoint under the names that `tracking.checkpoints` asks for, if it still exists."""
        if self.settings.checkpoints is cfg.Upload.none:
            return
        if not CHECKPOINT_NAME.fullmatch(event["name"]):
            self.tell(f"not sent: {event['name']!r} is not the name of a checkpoint")
            return
        folder = f"{CHECKPOINTS}/{event['name']}"
        for name in checkpoint_names(event, self.settings.checkpoints):
            # Training may drop older checkpoints at any time: newer ones follow in the journal.
            with contextlib.suppress(FileNotFoundError):
                if (self.directory / folder).is_dir():
                    for part in CHECKPOINT_FILES:
                        self._upload(f"{folder}/{part}", f"{CHECKPOINTS}/{name}")
                    self.client.set_tag(self.values["run_id"], f"checkpoint.{name}", event["name"])
