"""The confidence below which the answer is `unknown` instead of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accepted:
    """How many predictions remain above a confidence threshold, and how accurate they are."""

    coverage: float
    """Fraction of the images above the threshold."""
    accuracy: float | None
    """Accuracy on those; None if there are none."""


def best(confidences: np.ndarray, is_right: np.ndarray, accuracy: float) -> float | None:
    """The lowest confidence threshold from which on predictions reach the wanted accuracy.

    confidences: float32 [N]; is_right: bool [N]. It is halfway between two occurring confidences, and 0 where all
    predictions together are that accurate; None where no threshold is.
    """
    if not len(confidences) or np.isnan(confidences).any():
        return None
    values, places = np.unique(confidences, return_inverse=True)
    images, right = (np.bincount(places, one)[::-1].cumsum()[::-1] for one in (None, is_right))
    reached = np.flatnonzero(right / images >= accuracy)
    if not len(reached):
        return None
    first = reached[0]
    if not first:
        return 0.0
    # There may be no float32 between two neighbours.
    middle = np.float32((np.float64(values[first - 1]) + values[first]) / 2)
    return float(middle if middle > values[first - 1] else values[first])


def accepted(confidences: np.ndarray, is_right: np.ndarray, threshold: float) -> Accepted:
    """Coverage and accuracy of predictions at or above a threshold; arrays as in `best`."""
    kept = confidences >= np.float32(threshold)
    if not kept.any():
        return Accepted(0.0, None)
    return Accepted(float(kept.mean()), float(is_right[kept].mean()))
