"""Pruning criteria: scores that decide which filters of a convolution go first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    # For annotations only: commands that read a config must not import NumPy.
    import numpy as np

#: Weight float32 [filters, channels, k, k] → a score for each filter, [filters]; the lowest go first.
Scores: TypeAlias = "Callable[[np.ndarray], np.ndarray]"
#: The criterion whose scores are those of `compression.prune.target`.
CUSTOM = "custom"
#: Criteria that need more than a convolution's weights: the normalisation after it, or gradients.
BN_SCALE, TAYLOR = "bn_scale", "taylor"


def fpgm(weight: np.ndarray) -> np.ndarray:
    """Sum of a filter's Euclidean distances to all filters of the layer: the others best replace the lowest ones.

    weight: float32 [O, C, k, k]; returns float64 [O]. He et al., Filter Pruning via Geometric Median for Deep
    Convolutional Neural Networks Acceleration, CVPR 2019.
    """
    rows = _rows(weight)
    squares = (rows**2).sum(axis=1)
    return ((squares[:, None] + squares[None] - 2 * rows @ rows.T).clip(min=0) ** 0.5).sum(axis=1)


def l1_norm(weight: np.ndarray) -> np.ndarray:
    """Sum of a filter's absolute weights (Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017).

    weight: float32 [O, C, k, k]; returns float64 [O].
    """
    return abs(_rows(weight)).sum(axis=1)


def l2_norm(weight: np.ndarray) -> np.ndarray:
    """Euclidean norm of a filter (He et al., Soft Filter Pruning, IJCAI 2018).

    weight: float32 [O, C, k, k]; returns float64 [O].
    """
    return (_rows(weight) ** 2).sum(axis=1) ** 0.5


def _rows(weight: np.ndarray) -> np.ndarray:
    """float64 [O, C·k·k]."""
    return weight.reshape(len(weight), -1).astype("float64")


#: Value of `compression.prune.criterion` → its scores.
CRITERIA: dict[str, Scores] = {"fpgm": fpgm, "l1_norm": l1_norm, "l2_norm": l2_norm}
#: Every value of `compression.prune.criterion`.
NAMES = [*CRITERIA, BN_SCALE, TAYLOR, CUSTOM]
