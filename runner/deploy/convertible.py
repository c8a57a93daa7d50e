"""Layers that paddle2onnx 2.1 refuses or converts wrongly, computed by operations that it converts."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn


def substitute(network: nn.Layer) -> None:
    """Let such layers compute what they do by other operations, in place: classes change, weights do not."""
    for layer in network.sublayers():
        layer.__class__ = REPLACED.get(type(layer), type(layer))


@contextlib.contextmanager
def substituted(network: nn.Layer) -> Iterator[None]:
    """The same within the context."""
    classes = [(layer, type(layer)) for layer in network.sublayers()]
    substitute(network)
    try:
        yield
    finally:
        for layer, own in classes:
            layer.__class__ = own


class AdaptivePool(nn.AdaptiveAvgPool2D):
    """`nn.AdaptiveAvgPool2D` to a size that does not divide that of the maps: ONNX has no such operation.

    Then it is a product with a matrix of weights for the rows and one for the columns.
    """

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        height, width = x.shape[2:]
        size = self._output_size
        rows, columns = (size, size) if isinstance(size, int) else (size[0] or height, size[1] or width)
        if self._data_format != "NCHW" or not (height % rows or width % columns):
            return super().forward(x)
        down, across = paddle.to_tensor(_averages(height, rows)), paddle.to_tensor(_averages(width, columns).T)
        return paddle.matmul(paddle.matmul(down, x), across)


class Clip(nn.Hardtanh):
    """`nn.Hardtanh`, of which paddle2onnx ignores the limits."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x.clip(self._min, self._max)


class Celu(nn.CELU):
    """`nn.CELU`, which paddle2onnx refuses."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return F.relu(x) - self._alpha * F.relu(1 - paddle.exp(x.clip(max=0.0) / self._alpha))


class Softplus(nn.Softplus):
    """`nn.Softplus`, which paddle2onnx refuses."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        scaled = self._beta * x
        soft = (F.relu(scaled) + paddle.log(1 + paddle.exp(-scaled.abs()))) / self._beta
        return paddle.where(scaled > self._threshold, x, soft)


class Gelu(nn.GELU):
    """`nn.GELU`; paddle2onnx takes its approximation by tanh for the exact one."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self._approximate:
            return super().forward(x)
        return 0.5 * x * (1 + paddle.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


#: Class → the one that computes the same.
REPLACED: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.AdaptiveAvgPool2D: AdaptivePool,
    nn.Hardtanh: Clip,
    nn.CELU: Celu,
    nn.Softplus: Softplus,
    nn.GELU: Gelu,
}


def _averages(size: int, wanted: int) -> np.ndarray:
    """float32 [wanted, size]: the weight of each pixel in each mean, which begins at its share of the pixels."""
    weights = np.zeros((wanted, size), np.float32)
    for place in range(wanted):
        begin, end = place * size // wanted, -(-(place + 1) * size // wanted)
        weights[place, begin:end] = 1 / (end - begin)
    return weights
