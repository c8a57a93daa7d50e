"""The metrics of a run, and the one that decides between its weights and between runs."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, nearest
from ..metrics import ALIASES, MANY, METRICS, PER_CLASS, Goal, Metric, Sums
from ..metrics.names import class_of, find, monitored, monitored_metric, per_class_metric, present, with_k
from .sweep import Cost
from .targets import load_target

#: Final values that are not metrics, whose names are taken.
TAKEN = {
    *(cost.value for cost in Cost),
    "latency_ms_p99",
    "images_per_s",
    "monitored",
    "int8_top1",
    "int8_agreement",
    "int8_hamming_loss",
    "exported_top1",
    "exported_hamming_loss",
}
#: Most characters of a class whose metric is monitored.
MOST_CHARACTERS = 180


@dataclass
class CustomMetric:
    """A user-defined metric: `target(confusion, **kwargs)` returns a number.

    confusion: NumPy int64 [K, K], rows are labels, columns predictions. With `data.labels=many` it
    is [K, 2, 2]: for each class the images without and with it (row), by whether it was predicted (column).
    """

    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    goal: Goal = "???"  # type: ignore[assignment]
    """Which direction is better: max or min."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


def metrics_of(
    custom: Mapping[str, CustomMetric], many: bool = False, monitor: str = "", classes: Sequence[str] = ()
) -> list[Metric]:
    """The metrics of a run with these user-defined ones, `train.metrics`; `many`: for multi-label images.

    `monitor`: its `train.monitor`, which may be a metric of one class. `classes`: their names, where it is computed.
    Errors: ConfigError if the class is not among them.
    """
    own = [Metric(name, name, one.goal, functools.partial(_computed, name, one)) for name, one in custom.items()]
    name = monitored_metric(monitor)
    if label := class_of(name):
        if classes and label not in classes:
            raise ConfigError(
                f"train.monitor={monitor}: there is no class '{label}'.{nearest(label, classes)} Valid: "
                f"{', '.join(classes)}"
            )
        own.append(per_class_metric(name, classes))
    return [*(MANY if many else METRICS), *own]


def _computed(name: str, custom: CustomMetric, sums: Sums) -> float:
    """Errors: ConfigError naming the metric if its callable is not found, raises, or does not return a number."""
    target = load_target(custom.target)
    try:
        value: Any = target(sums.confusion.copy(), **custom.kwargs)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise ConfigError(
            f"train.metrics.{name}: {custom.target} raised {type(error).__name__}: {error}. It is given the confusion "
            f"matrix, int64 {list(sums.confusion.shape)} with a row a class, and kwargs={custom.kwargs}."
        ) from error
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"train.metrics.{name}: {custom.target} returned a {type(value).__name__}, not a number."
        ) from error


def without_alias(monitor: str, custom: Mapping[str, CustomMetric]) -> str:
    """The monitor with the metric's name here in place of an alias of it."""
    name = monitored_metric(monitor)
    return monitor if name in custom else f"{monitor.removesuffix(name)}{ALIASES.get(name, name)}"


def prominent(values: Iterable[str], metrics: Iterable[Metric], monitor: str) -> list[Metric]:
    """Those of some metrics, named without a network, that are shown if there is room for few."""
    name = monitored_metric(monitor)
    return [metric for metric in present(values, metrics) if metric.is_prominent or metric.name == name]


def goal_of(monitor: str, goal: Goal | None, custom: Mapping[str, CustomMetric]) -> Goal | None:
    """The direction in which the monitored metric is better; None if there is no such metric."""
    if goal is not None:
        return goal
    metric = find(monitored_metric(monitor), [*metrics_of(custom, monitor=monitor), *MANY])
    return metric.goal if metric else None


def refusal(
    monitor: str, networks: Sequence[str], metrics: Sequence[Metric], k: int, knows_classes: bool = True
) -> str:
    """The message for a monitor that these networks and metrics do not have, with the nearest ones.

    `knows_classes`: whether `k` is known not to exceed the number of classes.
    """
    names = [metric.name for metric in with_k(metrics, k) if class_of(metric.name) is None]
    valid = [f"val/{network}/{name}" for network in networks for name in names]
    single = [f"val/{kind}/CLASS" for kind in PER_CLASS]
    kind = monitor.rstrip("/").rpartition("/")[2]
    why = f"no such metric.{nearest(f'val/{monitored(monitor)}', valid)}"
    if kind in PER_CLASS:
        why = f"the {PER_CLASS[kind][0]} is that of a class, such as val/{kind}/CLASS."
    bound = "" if knows_classes or f"top{k}" not in names else f" (top{k}: of at least {k + 1} classes)"
    name = monitored_metric(monitor)
    for labels, others in (("one", METRICS), ("many", MANY)):
        if (other := find(name, others)) and not find(name, metrics):
            # The first metric is the headline.
            why = (
                f"{other.title} is a metric of data.labels={labels}, which this run does not have. Use "
                f"train.monitor=val/{names[0]} ({metrics[0].title})."
            )
    return f"train.monitor={monitor}: {why} Valid: {', '.join(valid)}{bound}, and of one class {', '.join(single)}"


def is_known(monitor: str, networks: Sequence[str], metrics: Sequence[Metric], k: int | None = None) -> bool:
    """Whether there is such a metric; without `k`, top-k metrics of any k."""
    network, _, name = monitored(monitor).partition("/")
    named = metrics if k is None else with_k(metrics, k)
    return monitor.startswith("val/") and network in networks and find(name, named) is not None


def class_problem(monitor: str) -> str | None:
    """Why the class whose metric is monitored cannot be part of a metric's name."""
    label = class_of(monitored_metric(monitor))
    # What MLflow takes in names, of at most 250 characters; a network's and a metric's name come before.
    fits = label is None or (
        len(label) <= MOST_CHARACTERS
        and re.fullmatch(r"[\w.: -]+(/[\w.: -]+)*", label) and not {".", ".."} & set(label.split("/"))
    )  # fmt: skip
    if fits:
        return None
    return (
        f"train.monitor={monitor}: the class cannot be part of a metric's name, which has letters, digits, blanks, "
        f"'_', '-', '.', ':' and '/' only, and here at most {MOST_CHARACTERS}. Rename the class, or monitor a metric "
        "of your own (train.metrics)."
    )


def naming_problem(name: str) -> str | None:
    """Why a metric cannot have this name."""
    if not re.fullmatch(r"[A-Za-z][\w-]*", name):
        return "a metric's name begins with a letter and has letters, digits, '_' and '-' only, such as kappa"
    if name in TAKEN or find(name, [*METRICS, *MANY]):
        return "the name is taken by another final value. Choose another one"
    return None
