"""MLflow's model registry: versions of a run's export under a name, with the alias `best` on the best one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import config as cfg
from ..config.monitor import goal_of
from ..metrics.names import monitored
from ..runs.result import best_of
from . import logged_model

ALIAS = "best"
#: Tags of a version: its logged model, the metric that versions are compared by, and the value of that.
MODEL, MONITOR, VALUE = "runner.model", "runner.monitor", "runner.value"
#: How often the alias is checked again, since another run may be registered at the same time.
LOOKS = 3


def register(
    client: Any, name: str, config: cfg.Config, experiment_id: str, run_id: str, tell: Callable[[str], None]
) -> None:
    """Register the newest export of a complete run, once, and give the alias to the best version.

    A run without an export is left alone. Errors: MlflowException, CallTimeout.
    """
    logged = logged_model.newest(client, experiment_id, run_id)
    if logged is None:
        tell(f"not registered as {name}: the run has no export")
        return
    versions = _versions(client, name)
    if not any(version.tags.get(MODEL) == logged.model_id for version in versions):
        tags = {MODEL: logged.model_id} | _judged(client, config, run_id)
        # MLflow 3.17 looks `models:/ID` up in the store of its environment variable, not in the client's.
        source = logged.artifact_location
        client.create_model_version(name, source, run_id, tags, await_creation_for=0, model_id=logged.model_id)
    for _ in range(LOOKS):
        if not _give_alias(client, name, _monitor(config), tell):
            return


def _monitor(config: cfg.Config) -> str:
    """What versions are compared by: `max` or `min`, and the metric's name."""
    goal = goal_of(config.train.monitor, config.train.goal, config.train.metrics) or cfg.Goal.max
    return f"{goal.name} val/{monitored(config.train.monitor)}"


def _judged(client: Any, config: cfg.Config, run_id: str) -> dict[str, str]:
    """The tags with the value that the run decided by; empty if it has none that is a number."""
    monitor = _monitor(config)
    goal, _, metric = monitor.partition(" ")
    validations = [point.value for point in client.get_metric_history(run_id, metric)]
    best = best_of(client.get_run(run_id).data.metrics, validations, cfg.Goal[goal])
    return {} if best is None or not math.isfinite(best) else {MONITOR: monitor, VALUE: repr(best)}


def _versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, the oldest first; the model is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions: list[Any] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        versions += page
        token = page.token
        if not token:
            return sorted(versions, key=lambda version: int(version.version))


def _value(version: Any) -> float | None:
    try:
        value = float(version.tags[VALUE])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _give_alias(client: Any, name: str, monitor: str, tell: Callable[[str], None]) -> bool:
    """Give the alias to the best version by this metric. Returns whether it moved."""
    # Only a run's newest export counts; of equal runs the first one stays the best.
    runs: dict[str, tuple[int, Any]] = {}
    versions = _versions(client, name)
    for order, version in enumerate(versions):
        if version.tags.get(MONITOR) == monitor and _value(version) is not None:
            runs[version.run_id] = (runs.get(version.run_id, (order, None))[0], version)
    sign = -1 if monitor.startswith(cfg.Goal.min.name) else 1
    best = max(runs.values(), key=lambda one: (sign * (_value(one[1]) or 0.0), -one[0]), default=(0, None))[1]
    has = client.get_registered_model(name).aliases.get(ALIAS)
    if best is None or str(best.version) == str(has):
        return False
    holder = next((version for version in versions if str(version.version) == str(has)), None)
    if holder is not None and holder.tags.get(MONITOR) != monitor:
        tell(f"the alias {ALIAS} of {name} stays at version {has}, which was not judged by {monitor.split()[1]}")
        return False
    client.set_registered_model_alias(name, ALIAS, str(best.version))
    return True
