"""The exchange of every step: gradients and layer statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import paddle
from paddle import Tensor, nn

from ..kernels import native
from ..models import Networks, Output
from . import shared
from .network import Network
from .ranks import Ranks


class Replicas:
    """Alone: nothing."""

    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def forward(self, images: Tensor) -> dict[str, Output]:
        """The outputs of all networks."""
        return self.networks(images)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        """Context of the passes of one part of a batch."""
        return contextlib.nullcontext()

    def reduce_gradients(self) -> None:
        """Average gradients and statistics over all processes, after the last part of a batch."""

    def resized(self) -> None:
        """Adapt to parameters and other exchanged tensors that became smaller."""

    def should_stop(self, requested: bool, waits: bool) -> bool:
        """Whether to end after this step, the same in all processes; `requested`: whether this one was asked to.

        `waits`: whether the step waits for the device anyway.
        """
        return requested


#: Tensors of statistics, each with the layer that changes it in training mode.
Statistics = Sequence[tuple[nn.Layer, Tensor]]


def _changing(statistics: Statistics) -> list[Tensor]:
    """Those that the last step changed. Frozen ones are skipped: the mean of equal values may differ from them by
    rounding."""
    return [tensor for layer, tensor in statistics if layer.training]


class DataParallel(Replicas):
    """Gradients by `paddle.DataParallel`, which overlaps communication with the backward pass."""

    def __init__(self, networks: Networks, ranks: Ranks, statistics: Statistics) -> None:
        super().__init__(networks)
        self.ranks, self.statistics, self.replica = ranks, statistics, paddle.DataParallel(networks)

    def forward(self, images: Tensor) -> dict[str, Output]:
        return self.replica(images)

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if last else self.replica.no_sync()

    def reduce_gradients(self) -> None:
        self.ranks.average(_changing(self.statistics))

    def should_stop(self, requested: bool, waits: bool) -> bool:
        return waits and self.ranks.any_rank(requested)


class AveragedGradients(Replicas):
    """Gradients in one all-reduce after the backward pass, for any layers."""

    def __init__(self, networks: Networks, ranks: Ranks, statistics: Statistics, further: Sequence[Tensor]) -> None:
        super().__init__(networks)
        self.ranks, self.statistics, self.parameters = ranks, statistics, [*networks.parameters(), *further]

    def reduce_gradients(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self.ranks.average([*gradients, *_changing(self.statistics)])

    def should_stop(self, requested: bool, waits: bool) -> bool:
        return waits and self.ranks.any_rank(requested)


class FlatAllReduce(Replicas):
    """All gradients as one array: on a CPU nothing overlaps with it, and each message has overhead."""

    def __init__(self, networks: Networks, ranks: Ranks, statistics: Statistics, further: Sequence[Tensor]) -> None:
        super().__init__(networks)
        # Above 0 after an exchange: some process was asked to end before it.
        self.stop_flag = paddle.zeros([1], "float32")
        self.ranks, self.statistics = ranks, statistics
        self.parameters = [one for one in (*networks.parameters(), *further) if not one.stop_gradient]
        self.resized()
        size = int(self.sizes.sum())
        self.means = shared.memory(ranks, size) or GlooMeans(ranks, size)

    def resized(self) -> None:
        tensors = [*self.parameters, *(tensor for _, tensor in self.statistics), self.stop_flag]
        self.sizes = np.array([tensor.size for tensor in tensors], dtype=np.int64)

    @paddle.no_grad()
    def reduce_gradients(self) -> None:
        gradients = [parameter.grad for parameter in self.parameters]
        used = [gradient is not None for gradient in gradients]
        used += [layer.training for layer, _ in self.statistics]
        present = [gradient for gradient in gradients if gradient is not None]
        # A gradient may be a view with strides.
        dense = [gradient if gradient.is_contiguous() else gradient.contiguous() for gradient in present]
        tensors = [*dense, *_changing(self.statistics), self.stop_flag]
        addresses = np.array([tensor.data_ptr() for tensor in tensors], dtype=np.uint64)
        sizes = self.sizes if all(used) else self.sizes[[*used, True]]
        self.means.average(len(tensors), addresses.ctypes.data, sizes.ctypes.data)
        for gradient, own in zip(present, dense, strict=True):
            if own is not gradient:
                paddle.assign(own, gradient)

    def should_stop(self, requested: bool, waits: bool) -> bool:
        stops = bool(self.stop_flag.item())
        if requested and not stops:
            self.stop_flag.fill_(1.0)
        return stops


class GlooMeans:
    """Means over the processes of any machines."""

    def __init__(self, ranks: Ranks, size: int) -> None:
        """size: float32 numbers of an exchange."""
        self.ranks, self.flat = ranks, paddle.zeros([size], "float32")

    def average(self, count: int, arrays: int, sizes: int) -> None:
        """As `shared.Memory.average`."""
        several = (count, arrays, sizes, self.flat.data_ptr())
        native.kernels().gather(*several)
        self.ranks.all_reduce_sum(self.flat)
        native.kernels().scatter(*several, 1 / self.ranks.world_size)


def replicate(
    networks: Networks,
    ranks: Ranks,
    statistics: Statistics,
    packed: bool,
    changes: bool = False,
    further: Sequence[Tensor] = (),
) -> Replicas:
    """The gradient exchange of a run's processes, all of which have the same weights.

    `statistics`: float32 tensors of any shape; `packed`: whether all are on CPUs with the compiled kernels, which
    exchange float32 alone; `changes`: whether other parameters have gradients later, which Paddle's reducer would wait
    for from the first step on, or parameters have other shapes; `further`: further trained float32 parameters, which
    Paddle's reducer does not know.
    """
    if ranks.world_size == 1:
        return Replicas(networks)
    if packed and all(parameter.dtype == paddle.float32 for parameter in networks.parameters()):
        return FlatAllReduce(networks, ranks, statistics, further)
    if isinstance(ranks.transport, Network) and not changes and not further:
        return DataParallel(networks, ranks, statistics)
    return AveragedGradients(networks, ranks, statistics, further)
