"""Events of the journal as what MLflow has for them."""

from __future__ import annotations

import json
from typing import Any

from .. import files


def metrics_of(event: dict[str, Any]) -> list[Any]:
    """The points of an event `metrics`."""
    from mlflow.entities import Metric

    time_ms = round(1000 * event["time"])
    return [Metric(key, value, time_ms, step_of(key, event["step"])) for key, value in event["values"].items()]


def step_of(key: str, step: int) -> int:
    """The step under which MLflow has a metric: results are of the whole run, and points at 0 are drawn as bars."""
    return 0 if key.startswith(("test/", "final/")) else step


def dataset_of(event: dict[str, Any]) -> Any:
    """The images of an event `dataset`, as what a run was trained on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    dataset = Dataset(
        name=event["name"],
        digest=event["digest"],
        source_type="local",
        source=json.dumps({"uri": event["source"]}),
        profile=files.to_json(event["profile"] | {"about": event.get("about", {})}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
