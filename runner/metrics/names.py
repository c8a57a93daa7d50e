"""Finds metrics by names, such as `macro_f1` or `top5`, and by the names of values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from . import HEADLINE, MANY, Metric


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
