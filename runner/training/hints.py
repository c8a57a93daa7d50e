"""Adapters of hints: learnt 1×1 convolutions from a network's channels to its peer's, needed in training only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor
from paddle.nn.initializer import Assign

from ..models.taps import Features


class Adapters:
    """A 1×1 convolution with bias for each pair of layers of a network and of one that it follows.

    They are not part of the networks: exports, parameter counts and evaluations do not include them. Parameters are
    named `adapters/<term>/<network>/<followed network>/<layer>.weight` and `….bias`.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, Tensor] = {}
        self._networks: dict[str, str] = {}

    def add(self, term: str, network: str, peer: str, own: Features, others: Features, seed: int) -> None:
        """Adapters from maps [N, C, H, W] of a network to its peer's [N, C', H', W'], layer by layer.

        Weights are drawn with variance 1/C, which keeps that of the maps (LeCun et al., Efficient BackProp, 1998), as a
        function of seed and name alone: they are the same in all processes, and other random draws are unaffected.
        """
        for (layer, maps), other in zip(own.items(), others.values(), strict=True):
            name, shape = _name(term, network, peer, layer), [other.shape[1], maps.shape[1], 1, 1]
            drawn = np.random.default_rng([seed, *name.encode()]).standard_normal(shape) / maps.shape[1] ** 0.5
            for kind, value in (("weight", drawn), ("bias", np.zeros(shape[0]))):
                self.parameters[f"{name}.{kind}"] = _parameter(value)
                self._networks[f"{name}.{kind}"] = network

    def of(self, networks: list[str]) -> Iterator[tuple[str, Tensor]]:
        """Names and parameters of these networks' adapters: the networks' optimizer trains them too."""
        for name, parameter in self.parameters.items():
            if self._networks[name] in networks:
                yield name, parameter

    def adapted(self, term: str, network: str, peer: str, own: Features) -> Features:
        """Features with the peer's channels; those of a term without adapters are returned unchanged."""
        if f"{_name(term, network, peer, next(iter(own)))}.weight" not in self.parameters:
            return own
        return {layer: self._convolved(_name(term, network, peer, layer), maps) for layer, maps in own.items()}

    def _convolved(self, name: str, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])


def _name(term: str, network: str, peer: str, layer: str) -> str:
    return f"adapters/{term}/{network}/{peer}/{layer}"


def _parameter(value: np.ndarray) -> Tensor:
    array = value.astype(np.float32)
    return paddle.create_parameter(list(array.shape), "float32", default_initializer=Assign(array))


def hint(features: Features, peer: Features) -> Tensor:
    """Mean squared difference of adapted maps and the peer's, summed over the pairs of layers; a scalar.

    Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, eq. 3, as a mean over images, channels and pixels. Maps
    are float32 [N, C, H, W] and of equal channels; those of different sizes are averaged down to the smaller height and
    width.
    """
    pairs = zip(features.values(), peer.values(), strict=True)
    return paddle.add_n([(pooled(own, other) - pooled(other, own)).square().mean() for own, other in pairs])


def pooled(maps: Tensor, other: Tensor) -> Tensor:
    """Maps averaged down to the smaller height and width of the two."""
    size = [min(sides) for sides in zip(maps.shape[2:], other.shape[2:], strict=True)]
    return maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size)
