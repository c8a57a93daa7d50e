"""The quantization parameters of a fake-quantized layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class QuantizedWeight:
    """One layer with fake quantization of its input and its weight, trained or calibrated."""

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

    @property
    def bound(self) -> float:
        """The magnitude beyond which the layer cuts its input off: α or the range, whichever is smaller."""
        return self.activation_scale if self.clip is None else min(self.clip, self.activation_scale)
