"""Multi-label thresholds: the probability of each class from which its label is predicted."""

from __future__ import annotations

import numpy as np

from ..metrics import Scores

#: Threshold of a class of which nothing is known.
USUAL = 0.5


def best(scores: Scores) -> list[float]:
    """The threshold of each class with the highest F1, halfway between two occurring probabilities, or two bins.

    Of equally good ones the nearest to ½; ½ for a class without images. A label is predicted where its probability,
    float32, is at or above the threshold.
    """
    return [
        _best(own, others, values, scores.in_bins)
        for (own, others), values in zip(scores.ranking, scores.values, strict=True)
    ]


def _best(own: np.ndarray, others: np.ndarray, values: np.ndarray, in_bins: bool) -> float:
    some = (own + others) > 0
    own, others, values = own[some], others[some], values[some]
    if not own.any() or np.isnan(values).any():
        return USUAL
    # If all labels with at least this value are predicted.
    hits, predicted = (counts[::-1].cumsum()[::-1] for counts in (own, own + others))
    f1 = 2 * hits / (predicted + own.sum())
    below = np.concatenate([np.zeros(1, np.float32), values[:-1]])
    # There may be no float32 between two neighbours.
    middle = ((below.astype(np.float64) + values) / 2).astype(np.float32)
    cuts = np.where((middle > below) & (not in_bins), middle, values)[f1 == f1.max()]
    return float(cuts[np.argmin(np.abs(cuts - USUAL))])
