"""Below which confidence a picture is of nothing that a network knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Accepted:
    """What is left where less confident predictions are not believed."""

    coverage: float
    """Part of the images."""
    accuracy: float | None
    """Of those; None of none."""


def best(confidences: np.ndarray, is_right: np.ndarray, accuracy: float) -> float | None:
    """The lowest threshold of the confidence from which on predictions are right as often as wanted.

    confidences: float32 [N]; is_right: bool [N]. It is half way between two confidences that there are, and 0 where all
    predictions together are that good; None where no threshold is.
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
    # Between neighbours there may be none.
    middle = np.float32((np.float64(values[first - 1]) + values[first]) / 2)
    return float(middle if middle > values[first - 1] else values[first])


def accepted(confidences: np.ndarray, is_right: np.ndarray, threshold: float) -> Accepted:
    """What predictions at or above a threshold come to; arrays as in `best`."""
    kept = confidences >= np.float32(threshold)
    if not kept.any():
        return Accepted(0.0, None)
    return Accepted(float(kept.mean()), float(is_right[kept].mean()))
