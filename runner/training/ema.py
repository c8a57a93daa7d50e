"""Exponential moving average of the weights (Polyak & Juditsky, 1992)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import paddle
from paddle import Tensor, nn


class Ema:
    """Averages of every floating-point weight and buffer of a network: average ← decay·average + (1-decay)·value.

    With a warm-up the decay after step t is at most (1 + t) / (10 + t), so that the average of a short run is not
    mostly initial weights (`num_updates` of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(
        self, network: nn.Layer, decay: float, warmup: bool = False, averages: Mapping[str, Tensor] | None = None
    ) -> None:
        """`averages`: float32 tensors, equal to the network's values, that are to hold the averages; by default new
        ones."""
        self.decay, self.warmup = decay, warmup
        self.tracked = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
        self.averages: dict[str, Tensor] = {
            name: averages[name] if averages else value.detach().astype("float32").clone()
            for name, value in self.tracked.items()
        }

    @paddle.no_grad()
    def update(self, step: int, is_frozen: Callable[[str], bool] = lambda name: False) -> None:
        """Update the averages from the network after optimizer step `step` (the first is 0).

        Frozen values are skipped, because an average of equal values is not exactly that value in float32.
        """
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        for name, value in self.tracked.items():
            if is_frozen(name):
                continue
            self.averages[name].scale_(decay).add_(value.astype("float32") * (1 - decay))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the network has the averaged weights; afterwards its own again."""
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
