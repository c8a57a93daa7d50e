"""Conversion of the journal's events to MLflow's entities."""

from __future__ import annotations

import json
from typing import Any

from .. import files


def metrics_of(event: dict[str, Any]) -> list[Any]:
    """The metrics of an event `metrics`."""
    from mlflow.entities import Metric

    time_ms = round(1000 * event["time"])
    return [Metric(key, value, time_ms, step_of(key, event["step"])) for key, value in event["values"].items()]


def step_of(key: str, step: int) -> int:
    """The step of a metric in MLflow: 0 for results of the whole run, which MLflow then draws as bars."""
    return 0 if key.startswith(("test/", "final/")) else step


def dataset_of(event: dict[str, Any]) -> Any:
    """The data set of an event `dataset`, as an input of the run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"],
        digest=event["digest"],
        source_type="local",
        source=json.dumps({"uri": event["source"]}),
        profile=files.to_json(event["profile"] | {"about": event.get("about", {})}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
