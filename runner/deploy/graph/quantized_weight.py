"""The quantization parameters of a layer that was trained with fake quantization."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class QuantizedWeight:
    """One layer that was trained with fake quantization of its input and its weight."""

    name: str
    """Paddle's name of the weight."""
    weight_scale: np.ndarray
    """float32 [channels] or [1]: the magnitude that the largest integer stands for."""
    weight_bits: int
    activation_bits: int
    activation_scale: float
    """The magnitude of an activation that the largest integer stands for."""
    clip: float | None
    """PACT's α."""
