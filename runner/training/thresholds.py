"""From which probability on a label is predicted, where an image may have many."""

from __future__ import annotations

import numpy as np

from ..metrics import Scores

#: Of a class of which nothing is known.
USUAL = 0.5


def best(scores: Scores) -> list[float]:
    """The threshold of each class with the highest F1, half way between two probabilities that there are, or two bins.

    Of equal ones that nearest to ½; ½ of a class without images. A label is predicted where its probability, float32,
    is not below it.
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
    # From each of the values on.
    hits, predicted = (counts[::-1].cumsum()[::-1] for counts in (own, own + others))
    f1 = 2 * hits / (predicted + own.sum())
    below = np.concatenate([np.zeros(1, np.float32), values[:-1]])
    # Between neighbours there may be none.
    middle = ((below.astype(np.float64) + values) / 2).astype(np.float32)
    cuts = np.where((middle > below) & (not in_bins), middle, values)[f1 == f1.max()]
    return float(cuts[np.argmin(np.abs(cuts - USUAL))])
