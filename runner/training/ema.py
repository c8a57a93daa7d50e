"""Exponential moving average of the weights (Polyak & Juditsky, 1992)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import paddle
from paddle import Tensor, nn


class Ema:
    """Averages of every floating-point weight and buffer of a network: average ← decay·average + (1-decay)·value."""

    def __init__(self, network: nn.Layer, decay: float) -> None:
        self.decay = decay
        self.tracked = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        self.averages: dict[str, Tensor] = {
            name: value.detach().astype("float32").clone() for name, value in self.tracked.items()
        }

    @paddle.no_grad()
    def update(self) -> None:
        """Take the network's current values into the averages."""
        for name, value in self.tracked.items():
            self.averages[name].scale_(self.decay).add_(value.astype("float32") * (1 - self.decay))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the network has the averages; afterwards its own values again."""
        own = {name: value.detach().clone() for name, value in self.tracked.items()}
        self._assign(self.averages)
        try:
            yield
        finally:
            self._assign(own)

    @paddle.no_grad()
    def _assign(self, values: dict[str, Tensor]) -> None:
        for name, value in self.tracked.items():
            paddle.assign(values[name].astype(value.dtype), value)
