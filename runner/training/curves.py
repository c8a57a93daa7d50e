"""ROC, precision-recall and reliability curves for the report, thinned to few points."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import CONFIDENCE_UNIT, Scores, average_precision

#: Most classes that have curves, and most points of a curve.
CLASSES, POINTS = 10, 100
#: Decimal places, more than a picture shows.
DIGITS = 4


def of_classes(scores: Scores) -> list[dict[str, Any]]:
    """Curves of the classes with the lowest average precision: `label`, `roc` and `precision_recall`, [[x, y], …].

    A class that no image has, or every image, has no curve.
    """
    both = [label for label, (own, others) in enumerate(scores.ranking) if own.any() and others.any()]
    worst = sorted(both, key=lambda label: average_precision(*scores.ranking[label]))[:CLASSES]
    return [
        {
            "label": label,
            "roc": _thinned(roc(*scores.ranking[label])),
            "precision_recall": _thinned(precision_recall(*scores.ranking[label])),
        }
        for label in worst
    ]


def of_all_labels(scores: Scores) -> dict[str, list[list[float]]]:
    """Micro-averaged curves of multi-label images: each label of each image is a decision. Empty without both kinds."""
    _, own, others = _pooled(scores)
    if not own.any() or not others.any():
        return {}
    return {"roc": _thinned(roc(own, others)), "precision_recall": _thinned(precision_recall(own, others))}


def _pooled(scores: Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct probabilities, ascending, float32 [B], and at each the positive and negative labels, int64 [B]."""
    values, places = np.unique(np.concatenate(scores.values), return_inverse=True)
    own, others = (
        np.bincount(places, np.concatenate(parts)).astype(np.int64) for parts in zip(*scores.ranking, strict=True)
    )
    return values, own, others


def roc(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """False and true positive rate over falling thresholds, float64 [n, 2], from (0, 0) to (1, 1).

    own, others: int64 [B], images of the class and of others by ascending probability of it (`Scores.ranking`).
    """
    hits, alarms = _over_thresholds(own, others)
    return np.concatenate([np.zeros((1, 2)), np.stack([alarms / alarms[-1], hits / hits[-1]], axis=1)])


def precision_recall(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Recall and precision over falling thresholds, float64 [n, 2]. Images as in `roc`."""
    hits, alarms = _over_thresholds(own, others)
    return np.stack([hits / hits[-1], hits / (hits + alarms)], axis=1)


def _over_thresholds(own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images of the class and of others at or above each distinct threshold, the highest threshold first."""
    some = (own + others)[::-1] > 0
    return own[::-1].cumsum()[some], others[::-1].cumsum()[some]


def _thinned(points: np.ndarray) -> list[list[float]]:
    """Points evenly spaced along a curve, both ends included: float64 [n, 2]."""
    along = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
    places = np.searchsorted(along, np.linspace(0, along[-1], POINTS)).clip(max=len(points) - 1)
    chosen: list[list[float]] = points[np.unique(places)].round(DIGITS).tolist()
    return chosen


def reliability(scores: Scores) -> list[list[float]]:
    """For each confidence bin that has images: their number, accuracy and mean confidence.

    Multi-label: for each bin of probability that has labels: their number, the share that images have, their mean.
    """
    rows = scores.calibration[scores.calibration[:, 0] > 0]
    shares = rows[:, 1:] / rows[:, :1] * [1, CONFIDENCE_UNIT]
    return [[int(images), *pair] for images, pair in zip(rows[:, 0], shares.round(DIGITS).tolist(), strict=True)]
