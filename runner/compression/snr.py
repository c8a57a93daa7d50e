"""Signal-to-noise ratio of rounding or pruning."""

from __future__ import annotations

import math

import numpy as np


def powers(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """[Σy², Σ(y - ŷ)²] of values before and after a change, float64 [2]; sum it over batches."""
    before = before.astype(np.float64)
    return np.array([np.square(before).sum(), np.square(before - after).sum()])


def decibels(signal: float, noise: float) -> float:
    """10·log₁₀(signal / noise) of two powers, in dB: infinite without noise, -infinite without signal."""
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
