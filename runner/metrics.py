"""The metrics of an evaluation: one list, which everything that computes, monitors, stores or shows them iterates."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Goal(Enum):
    """Which direction of a metric is better."""

    max = "max"
    min = "min"


@dataclass(frozen=True)
class Sums:
    """What an evaluation of one network adds up, over all images of a split and all processes."""

    confusion: np.ndarray
    """int64 [K, K]: how often class (row) was taken for class (column)."""
    loss: float
    """Sum of the cross entropies, natural logarithm."""
    top1: int
    """Images whose label is the largest logit."""
    topk: int
    """Images whose label is among the k largest logits."""

    @property
    def images(self) -> int:
        """How many there were."""
        return int(self.confusion.sum())


@dataclass(frozen=True)
class Metric:
    """One number that says how good a network is."""

    name: str
    """Its part of `val/<network>/<name>`, `test/…` and `final/…`; `{k}` stands for the k of top-k."""
    title: str
    """What tables and plots call it."""
    goal: Goal
    compute: Callable[[Sums], float]
    is_proportion: bool = False
    """Whether it is a share of the images, so that its standard error is that of a binomial proportion."""
    is_prominent: bool = False
    """Whether it is shown where there is room for few, beside the monitored metric."""


def _share(part: float, images: int) -> float:
    return part / images if images else math.nan


def _macro_f1(sums: Sums) -> float:
    """Mean over classes of F1 = 2·TP / (2·TP + FP + FN) (van Rijsbergen, 1979), of the classes that have images.

    A class without images in the split is left out; one that is never predicted has 0. It is scikit-learn's
    `f1_score(labels=unique(y_true), average="macro", zero_division=0)`.
    """
    labelled, predicted, right = sums.confusion.sum(axis=1), sums.confusion.sum(axis=0), sums.confusion.diagonal()
    occurs = labelled > 0
    return float((2 * right[occurs] / (labelled + predicted)[occurs]).mean()) if occurs.any() else math.nan


def _balanced_accuracy(sums: Sums) -> float:
    """Mean recall of the classes that have images in the split (Brodersen et al., ICPR 2010).

    It is scikit-learn's `balanced_accuracy_score`.
    """
    labelled, right = sums.confusion.sum(axis=1), sums.confusion.diagonal()
    occurs = labelled > 0
    return float((right[occurs] / labelled[occurs]).mean()) if occurs.any() else math.nan


#: In the order in which tables show them.
METRICS = [
    Metric("top1", "top-1", Goal.max, lambda sums: _share(sums.top1, sums.images), True, True),
    Metric("top{k}", "top-{k}", Goal.max, lambda sums: _share(sums.topk, sums.images), True),
    Metric("macro_f1", "macro-F1", Goal.max, _macro_f1),
    Metric("balanced_accuracy", "balanced accuracy", Goal.max, _balanced_accuracy),
    Metric("loss", "loss", Goal.min, lambda sums: _share(sums.loss, sums.images), is_prominent=True),
]
#: What every finished run has, and what counts where nothing was validated.
HEADLINE = METRICS[0]


def with_k(metrics: Iterable[Metric], k: int) -> list[Metric]:
    """The metrics with their k; of two that are the same then (k = 1) the first."""
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
    """The metric of a name such as `macro_f1` or `top5`; None where there is none."""
    for metric in metrics:
        if metric.name == name:
            return metric
        if k := k_in(name, metric):
            return with_k([metric], k)[0]
    return None


def present(values: Iterable[str], metrics: Iterable[Metric]) -> list[Metric]:
    """The metrics that are among the names of some values, in their order; a top-k of any k that is there."""
    names = list(values)
    return _by_name(one for metric in metrics for name in names if (one := find(name, [metric])))


def _by_name(metrics: Iterable[Metric]) -> list[Metric]:
    """Of several of one name the first."""
    by_name: dict[str, Metric] = {}
    for metric in metrics:
        by_name.setdefault(metric.name, metric)
    return list(by_name.values())
