"""Depthwise convolution of small maps on a CPU as one batched matrix product, for machines without the kernels."""

from __future__ import annotations

import functools

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D

from .native import Size2, output_size

#: Most elements of a layer's matrices: larger ones cost more memory than they save time.
MAX_ELEMENTS = 1 << 24
#: Fewest images: below, Paddle's own kernel is as fast.
MIN_BATCH = 4


class DepthwiseConv2D(nn.Conv2D):
    """A depthwise `nn.Conv2D` that multiplies each channel's map by a matrix made from its kernel.

    The convolution of one channel is linear: output [H'·W'] = map [H·W] · M with M = Σ over the kernel's positions of
    weight · (constant 0/1 matrix). Paddle 3.3.1's own CPU kernel takes time in proportion to images × channels,
    whatever the size of the map; this takes a fifth of it. Results equal Paddle's up to float32 rounding. Large maps,
    tiny batches and traced graphs use Paddle's kernel. It is never constructed: `accelerate` changes the class of
    existing layers.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not _pays(self, features):
            return super().forward(features)
        return _multiply(self, features, self.weight)


class QuantizedDepthwiseConv2D(QuantizedConv2D):
    """`DepthwiseConv2D` with fake quantization, replacing Paddle's layer."""

    def forward(self, features: Tensor) -> Tensor:
        if not _pays(self, features):
            return super().forward(features)
        if self._act_preprocess is not None:
            features = self._act_preprocess(features)
        return _multiply(self, self._fake_quant_input(features), self._fake_quant_weight(self.weight))


def _pays(layer: nn.Layer, features: Tensor) -> bool:
    """Whether the matrices for these features [B, C, H, W], float32, are small enough and the batch is large enough."""
    batch, channels, height, width = features.shape
    if not paddle.in_dynamic_mode() or batch < MIN_BATCH or {features.dtype, layer.weight.dtype} != {paddle.float32}:
        return False
    rows, columns = output_size(*_geometry(layer, height, width))
    return channels * height * width * rows * columns <= MAX_ELEMENTS


def _geometry(layer: nn.Layer, height: int, width: int) -> tuple[Size2, Size2, Size2, Size2, int, int]:
    kernel = tuple(layer.weight.shape[2:])
    return kernel, tuple(layer._stride), _pair(layer._padding), tuple(layer._dilation), height, width


def _multiply(layer: nn.Layer, features: Tensor, weight: Tensor) -> Tensor:
    """Features [B, C, H, W] convolved with weights [C, 1, k, k]: [B, C, H', W']."""
    batch, channels, height, width = features.shape
    shape = _geometry(layer, height, width)
    rows, columns = output_size(*shape)
    matrices = paddle.matmul(weight.reshape([channels, -1]), _placements(*shape))
    matrices = matrices.reshape([channels, height * width, rows * columns])
    maps = features.reshape([batch, channels, height * width]).transpose([1, 0, 2])
    result = paddle.bmm(maps, matrices).transpose([1, 0, 2]).reshape([batch, channels, rows, columns])
    return result if layer.bias is None else result + layer.bias.reshape([1, channels, 1, 1])


FASTER: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.Conv2D: DepthwiseConv2D,
    QuantizedConv2D: QuantizedDepthwiseConv2D,
}


def accelerate(network: nn.Layer) -> int:
    """Swap the depthwise convolutions of a network, quantized or not, for faster ones, in place; returns how many.

    Parameters and their names are unchanged.
    """
    fitting = [layer for layer in network.sublayers(include_self=True) if _fits(layer)]
    for layer in fitting:
        layer.__class__ = FASTER[type(layer)]
    return len(fitting)


def _fits(layer: nn.Layer) -> bool:
    return (
        type(layer) in FASTER
        and layer._groups == layer.weight.shape[0] > 1
        and layer.weight.shape[1] == 1
        and layer._data_format == "NCHW"
        and layer._padding_mode == "zeros"
        and isinstance(layer._padding, (int, list, tuple))
        and len(_pair(layer._padding)) == 2
    )


def _pair(padding: int | list[int] | tuple[int, ...]) -> tuple[int, ...]:
    return (padding, padding) if isinstance(padding, int) else tuple(padding)


@functools.cache
def _placements(kernel: Size2, stride: Size2, padding: Size2, dilation: Size2, height: int, width: int) -> Tensor:
    """float32 [k·k, H·W·H'·W']: for each kernel position, which input pixel contributes to which output pixel."""
    rows, columns = output_size(kernel, stride, padding, dilation, height, width)
    placed = np.zeros((*kernel, height, width, rows, columns), dtype=np.float32)
    for place in np.ndindex(*kernel):
        sources = [
            np.arange(count) * step + offset * spread - pad
            for count, step, offset, spread, pad in zip((rows, columns), stride, place, dilation, padding, strict=True)
        ]
        inside = [(source >= 0) & (source < side) for source, side in zip(sources, (height, width), strict=True)]
        row, column = np.flatnonzero(inside[0]), np.flatnonzero(inside[1])
        row_grid, column_grid = np.meshgrid(row, column, indexing="ij")
        placed[place][sources[0][row_grid], sources[1][column_grid], row_grid, column_grid] = 1
    return paddle.to_tensor(placed.reshape(kernel[0] * kernel[1], -1))
