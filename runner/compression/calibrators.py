"""Ranges of activations, chosen from the magnitudes that calibration sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from paddle import Tensor

from ..config import Algorithm
from .rounding import levels_of

#: Ranges that are tried, as fractions of the largest magnitude; of equally good ones the largest is chosen.
TRIED = np.linspace(0.05, 1.0, 96)[::-1]
#: Values that a bin needs on average for divergences that are not those of chance.
VALUES_PER_BIN = 64
#: Squared error, in those of the best range, that the range with the least divergence may have: 6 dB, or one bit.
MOST_ERROR = 4.0


class Largest:
    """The largest magnitude of activations."""

    def __init__(self) -> None:
        self._largest = 0.0

    def observe(self, activation: Tensor) -> None:
        """Add one batch."""
        self._largest = max(self._largest, float(activation.abs().max()))

    def magnitude(self) -> float:
        """The range; 0 if everything was zero."""
        return self._largest


class Histogram:
    """A histogram of the magnitudes of activations, and the range that an algorithm chooses from it.

    Zeros are left out, since every range has them. The last bin ends at a power of 2. When a value is beyond it, that
    doubles and pairs of bins are merged, so that memory does not depend on the values.
    """

    BINS = 4096

    def __init__(self, algorithm: Algorithm, bits: int, percentile: float = 1.0) -> None:
        self.algorithm, self.levels, self.percentile = algorithm, levels_of(bits), percentile
        self.counts, self.largest = np.zeros(self.BINS), 0.0
        #: Of the power of 2 at which the last bin ends.
        self.exponent = 0

    def observe(self, activation: Tensor) -> None:
        """Add one batch."""
        magnitudes = np.abs(activation.astype("float32").numpy()).ravel()
        magnitudes = magnitudes[magnitudes > 0]
        if not len(magnitudes):
            return
        self.largest = max(self.largest, float(magnitudes.max()))
        if not self.counts.any():
            self.exponent = math.ceil(math.log2(self.largest))
        while self.largest > math.ldexp(1.0, self.exponent):
            self.counts = np.concatenate([_halved(self.counts), np.zeros(self.BINS // 2)])
            self.exponent += 1
        # In float32 the power itself may be infinite.
        self.counts += np.histogram(np.ldexp(magnitudes, -self.exponent), self.BINS, (0.0, 1.0))[0]

    def magnitude(self) -> float:
        """The range; 0 if everything was zero."""
        counts = self.counts
        match self.algorithm:
            case _ if not self.largest:
                return 0.0
            case Algorithm.hist:
                within = np.cumsum(counts)
                last = float(np.searchsorted(within, self.percentile * within[-1])) + 1
            case Algorithm.kl:
                tried = _accurate(counts, self.levels)
                while len(counts) > 1 and counts.sum() < VALUES_PER_BIN * len(counts):
                    counts = _halved(counts)
                last = _least(divergence, counts, self.levels, tried)
            case _:
                last = _least(squared_error, counts, self.levels)
        return min(self.largest, math.ldexp(last / len(counts), self.exponent))


Calibrator: TypeAlias = Largest | Histogram


def calibrator(algorithm: Algorithm, bits: int, percentile: float) -> Calibrator:
    """What observes the input of one layer."""
    return Largest() if algorithm is Algorithm.abs_max else Histogram(algorithm, bits, percentile)


def squared_error(counts: np.ndarray, levels: int, width: float) -> float:
    """The sum of squared errors of rounding, in units of bins, with a range of this width in bins; counts: [bins]."""
    rounded = _integers(counts, levels, width) * width / levels
    return float(counts @ np.square(np.arange(len(counts)) + 0.5 - rounded))


def divergence(counts: np.ndarray, levels: int, width: float) -> float:
    """The Kullback-Leibler divergence, in nats, of a histogram from that after rounding, with a range of this width.

    Values beyond the range count at its end, and rounding, which has none of them, spreads the values of an integer
    evenly over its bins that have any (Migacz, 8-bit Inference with TensorRT, GTC 2017). Infinite for a range that has
    no values, or not all of them and no more bins than integers: nothing would be rounded in it.
    """
    inside = counts[: math.ceil(width)]
    has_values, beyond = inside > 0, counts.sum() - inside.sum()
    if not has_values.any() or (beyond and len(inside) <= levels):
        return math.inf
    some, integers = inside[has_values], _integers(inside, levels, width)[has_values].astype(int)
    spread = (np.bincount(integers, some) / np.maximum(1, np.bincount(integers)))[integers]
    some[-1] += beyond
    return float(some @ np.log(some / some.sum() * spread.sum() / spread) / some.sum())


def _integers(counts: np.ndarray, levels: int, width: float) -> np.ndarray:
    """float64 [bins]: the integer that the centre of each bin is rounded to."""
    return np.minimum(np.round((np.arange(len(counts)) + 0.5) * levels / width), levels)


def _least(
    loss: Callable[[np.ndarray, int, float], float], counts: np.ndarray, levels: int, tried: np.ndarray = TRIED
) -> float:
    """The width in bins of the range with the least loss."""
    return float(min(_last(counts) * tried, key=lambda width: loss(counts, levels, width)))


def _accurate(counts: np.ndarray, levels: int) -> np.ndarray:
    """Those of the tried ranges whose squared error is not far from the least.

    Divergence does not count how far a value is moved. Where most of them are alike, as those of a constant background
    are, it is least when these are rounded well and all others are clipped.
    """
    errors = np.array([squared_error(counts, levels, width) for width in _last(counts) * TRIED])
    return TRIED[errors <= MOST_ERROR * errors.min()]


def _last(counts: np.ndarray) -> int:
    """Number of bins up to the last that has a value."""
    return int(np.flatnonzero(counts)[-1]) + 1


def _halved(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(-1, 2).sum(axis=1)
