"""Finds metrics by names, such as `macro_f1`, `top5` or `recall/dog`, and by the names of values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from . import HEADLINE, MANY, PER_CLASS, Goal, Metric, Sums, of_classes


def headline(values: Iterable[str]) -> Metric:
    """The headline metric among the names of some values: the one that every finished run has."""
    names = set(values)
    return MANY[0] if HEADLINE.name not in names and MANY[0].name in names else HEADLINE


def with_k(metrics: Iterable[Metric], k: int) -> list[Metric]:
    """The metrics with their k filled in; of duplicates (k = 1) the first."""
    named = [
        replace(one, name=one.name.replace("{k}", str(k)), title=one.title.replace("{k}", str(k))) for one in metrics
    ]
    return _by_name(named)


def k_in(name: str, metric: Metric) -> int | None:
    """The k in a name such as `top5`; None for the names of other metrics."""
    pattern = re.escape(metric.name).replace(re.escape("{k}"), r"([1-9]\d*)")
    match = re.fullmatch(pattern, name)
    return int(match[1]) if match and match.groups() else None


def find(name: str, metrics: Iterable[Metric]) -> Metric | None:
    """The metric of a name such as `macro_f1` or `top5`; None if there is no such metric."""
    for metric in metrics:
        if metric.name == name:
            return metric
        if k := k_in(name, metric):
            return with_k([metric], k)[0]
    return None


def class_of(name: str) -> str | None:
    """The class in a metric's name such as `recall/dog`; None for the names of other metrics."""
    kind, _, label = name.partition("/")
    return label if label and kind in PER_CLASS else None


def monitored(monitor: str) -> str:
    """The `<network>/<metric>` that a value of `train.monitor` means; by default the student's."""
    name = monitor.removeprefix("val/")
    return name if "/" in name and class_of(name) is None else f"student/{name}"


def monitored_metric(monitor: str) -> str:
    """The name of the metric in a value of `train.monitor`."""
    return monitored(monitor).partition("/")[2]


def per_class_metric(name: str, classes: Sequence[str]) -> Metric:
    """The metric of a name such as `recall/dog`: not a number without images of the class.

    classes: the names of all, in their order; it cannot be computed where the class is not among them.
    """
    kind, _, label = name.partition("/")
    title, values_of = PER_CLASS[kind]

    def compute(sums: Sums) -> float:
        number, values = classes.index(label), of_classes(sums.confusion)
        return float(values_of(values)[number]) if values.images[number] else math.nan

    return Metric(name, f"{title} of {label}", Goal.max, compute)


def present(values: Iterable[str], metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics among the names of some values, in their order; a top-k of any k."""
    names = list(values)
    return _by_name(one for metric in metrics for name in names if (one := find(name, [metric])))


def _by_name(metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics without repeated names, keeping the first of each."""
    by_name: dict[str, Metric] = {}
    for metric in metrics:
        by_name.setdefault(metric.name, metric)
    return list(by_name.values())
