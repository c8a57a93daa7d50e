"""Layers of Paddle and of this package that are computed by the kernels.

They are never constructed: `accelerate` gives a layer the class that `FASTER` lists for its own, so parameters, buffers
and names are unchanged. Traced graphs (export, pruning) and `stock()` use the original's forward pass.
"""

from __future__ import annotations

import functools
import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.jit import marker
from paddle.nn.quant.quant_layers import FakeQuantMovingAverageAbsMax, QuantizedConv2D

from ..compression.qat import Pact
from ..compression.rounding import Rounding
from ..models.efficientnet_lite import DropConnect
from ..models.mobilenet_v3 import ActivatedNorm, Gate
from . import autotune, functions, tokens
from .native import ACTIVATIONS, MOST_PLANS, Geometry
from .settings import SAME, pair
from .switch import Switch

#: Fewest values of a GELU or a layer normalisation for the kernels (`python -m benchmarks.transformers` times as many).
WORTH_A_CALL = 1 << 16
#: Fewest products of a linear layer for the kernels.
WORTH_PRODUCTS = 1 << 20
#: If on, every layer computes as Paddle does.
stock = Switch()
#: If on, activations are neither clipped nor rounded: a different rounding of one value would change everything after
#: it.
unquantized = Switch()


def batch_last() -> bool:
    """Whether accelerated layers currently pass on batch-last maps."""
    return not stock.on and paddle.in_dynamic_mode()


def applies(*tensors: Tensor | None) -> bool:
    """Whether the kernels support an input and a layer's parameters and buffers: all must be float32."""
    return batch_last() and all(tensor is None or tensor.dtype == paddle.float32 for tensor in tensors)


class Accelerated(nn.Layer):
    """The layout of an accelerated layer: between such layers maps are batch-last, [C, H, W, N]."""

    enters = False
    """Whether the input is batch-first, [N, C, H, W]."""
    leaves = False
    """Whether the output is batch-first."""

    def _enter(self, x: Tensor) -> Tensor:
        return functions.ToBatchLast.apply(x) if self.enters else x

    def _leave(self, x: Tensor) -> Tensor:
        return functions.ToBatchFirst.apply(x) if self.leaves else x

    def _by(self, plain: type[nn.Layer], x: Tensor) -> Tensor:
        """The output of Paddle's original layer `plain` for x, of any dtype, in the layouts of this one."""
        if not batch_last():
            return plain.forward(self, x)
        y = plain.forward(self, x if self.enters else x.transpose([3, 0, 1, 2]))
        return y if self.leaves else y.transpose([1, 2, 3, 0])


class _Convolution(Accelerated):
    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """x is [C, H, W, N], or [N, C, H, W] if the layer enters."""
        geometry = self._geometry(x)
        if autotune.paddle_is_faster(geometry, self.enters, self.leaves):
            x = x if self.enters else functions.ToBatchFirst.apply(x)
            g = geometry
            y = F.conv2d(x, weight, self.bias, g.stride, g.padding_of_paddle, g.dilation, g.groups)
            return y if self.leaves else functions.ToBatchLast.apply(y)
        return self._leave(functions.Convolution.apply(self._enter(x), weight, self.bias, geometry))

    def _geometry(self, x: Tensor) -> Geometry:
        batch, channels, height, width = x.shape if self.enters else (x.shape[3], *x.shape[:3])
        filters, per_group, *kernel = self.weight.shape
        if channels != per_group * self._groups:
            raise ValueError(f"{self.full_name()} takes {per_group * self._groups} channels, not {channels}")
        rows, columns = kernel
        stride, padding, more = pair(self._stride), self._padding, (0, 0)
        if padding == SAME:
            sides = zip((height, width), kernel, stride, strict=True)
            (top, below), (left, right) = (_same_padding(*side) for side in sides)
            padding, more = (top, left), (below - top, right - left)
        return _geometry(
            batch, channels, height, width, filters, (rows, columns), stride, pair(padding), pair(self._dilation),
            self._groups, more,
        )  # fmt: skip


def _same_padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after a side so that ⌈side / stride⌉ remain, as in `SAME` of Paddle and TensorFlow."""
    padding = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return padding // 2, padding - padding // 2


#: One object per shape, so that derived values are computed once.
_geometry = functools.lru_cache(maxsize=MOST_PLANS)(Geometry)


class Conv2D(_Convolution, nn.Conv2D):
    """`nn.Conv2D` by matrix products, or by a loop over runs of the batch if it is depthwise."""

    def forward(self, x: Tensor) -> Tensor:
        return self._convolve(x, self.weight) if applies(x, self.weight, self.bias) else self._by(nn.Conv2D, x)


class FakeQuantizedConv2D(_Convolution, QuantizedConv2D):
    """`Conv2D` with fake quantization, replacing Paddle's layer."""

    def forward(self, x: Tensor) -> Tensor:
        if not applies(x, self.weight, self.bias):
            return self._by(QuantizedConv2D, x)
        if self._act_preprocess is not None:
            x = self._act_preprocess(x)
        return self._convolve(self._fake_quant_input(x), self._fake_quant_weight(self.weight))


class BatchNorm2D(Accelerated, nn.BatchNorm2D):
    """`nn.BatchNorm2D`: one channel is one row."""

    def forward(self, x: Tensor) -> Tensor:
        return normalized(self, x, 0) if normalizes(self, x) else self._by(nn.BatchNorm2D, x)


class FusedNorm(Accelerated, ActivatedNorm):
    """`ActivatedNorm` in one pass, for the activations that the kernels have."""

    def forward(self, x: Tensor) -> Tensor:
        if not normalizes(self, x):
            return self._by(ActivatedNorm, x)
        name = getattr(self.activation, "__name__", "")
        if self.activation in (F.relu, F.relu6, F.hardswish, F.swish):
            return normalized(self, x, ACTIVATIONS.index(name))
        return self.activation(normalized(self, x, 0))


def normalizes(layer: nn.BatchNorm2D, x: Tensor | None = None) -> bool:
    """Whether the kernels support the settings of a normalisation, which may have changed since it was accelerated."""
    is_usual = layer._use_global_stats is None
    return is_usual and applies(x, layer.weight, layer.bias, layer._mean, layer._variance)


def normalized(layer: nn.BatchNorm2D, x: Tensor, activation: int, shortcut: Tensor | None = None) -> Tensor:
    """Batch-last maps normalised by a layer, plus a shortcut of the same shape, activated."""
    if x.shape[0] != layer.weight.shape[0]:
        raise ValueError(f"{layer.full_name()} takes {layer.weight.shape[0]} channels, not {x.shape[0]}")
    return functions.BatchNorm.apply(
        x, layer.weight, layer.bias, shortcut, (layer._mean, layer._variance), layer._epsilon, layer._momentum,
        activation, layer.training,
    )  # fmt: skip


class MeanPool(Accelerated, nn.AdaptiveAvgPool2D):
    """`nn.AdaptiveAvgPool2D(1)`."""

    def forward(self, x: Tensor) -> Tensor:
        if not applies(x):
            return self._by(nn.AdaptiveAvgPool2D, x)
        return self._leave(functions.MeanPool.apply(self._enter(x)))


class MaxPool2D(Accelerated, nn.MaxPool2D):
    """`nn.MaxPool2D`."""

    def forward(self, x: Tensor) -> Tensor:
        if not applies(x):
            return self._by(nn.MaxPool2D, x)
        x = self._enter(x)
        channels, height, width, batch = x.shape
        kernel = pair(self.ksize)
        geometry = _geometry(
            batch, channels, height, width, channels, kernel, pair(self.stride or kernel), pair(self.padding), (1, 1),
            channels,
        )  # fmt: skip
        return self._leave(functions.MaxPool.apply(x, geometry))


class AvgPool2D(Accelerated, nn.AvgPool2D):
    """`nn.AvgPool2D`: Paddle's, in its own layout."""

    def forward(self, x: Tensor) -> Tensor:
        if not applies(x):
            return self._by(nn.AvgPool2D, x)
        y = nn.AvgPool2D.forward(self, x if self.enters else functions.ToBatchFirst.apply(x))
        return y if self.leaves else functions.ToBatchLast.apply(y)


class FusedGate(Accelerated, Gate):
    """`Gate` with the batch last."""

    def forward(self, features: Tensor, gates: Tensor) -> Tensor:
        if not applies(features, gates):
            return Gate.forward(self, features, gates)
        if gates.shape != [features.shape[0], 1, 1, features.shape[3]]:
            raise ValueError(f"gates {gates.shape} are not those of maps {features.shape}")
        return functions.Gate.apply(features, gates)


class BatchLastDropConnect(Accelerated, DropConnect):
    """`DropConnect` with the batch last."""

    def forward(self, features: Tensor) -> Tensor:
        if not batch_last() or not self.training or not self.p:
            return DropConnect.forward(self, features)
        features = self._enter(features)
        return self._leave(features * self.kept(features.shape[3]).astype(features.dtype))


class Clip(Pact):
    """`Pact` in one pass."""

    def forward(self, activation: Tensor) -> Tensor:
        if unquantized.on:
            return activation
        if not applies(activation, self.alpha):
            return super().forward(activation)
        return functions.Clip.apply(activation, self.alpha)


class FakeQuantize(FakeQuantMovingAverageAbsMax):
    """`FakeQuantMovingAverageAbsMax` in two passes."""

    def forward(self, x: Tensor) -> Tensor:
        if unquantized.on:
            return x
        if not applies(x, self._scale, self._accum, self._state):
            return super().forward(x)
        levels = 2 ** (self._quant_bits - 1) - 1
        return functions.FakeQuantize.apply(
            x, self._scale, self._accum, self._state, self._moving_rate, levels, self.training
        )


class KeptRounding(Rounding):
    """`Rounding`, independent of the layout, and off while `unquantized` is on."""

    def forward(self, x: Tensor) -> Tensor:
        return x if unquantized.on else super().forward(x)


class GELU(nn.GELU):
    """`nn.GELU` in its exact form."""

    def forward(self, x: Tensor) -> Tensor:
        if self._approximate or not applies(x) or x.size < WORTH_A_CALL:
            return super().forward(x)
        return tokens.Gelu.apply(x)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` in one pass each way."""

    def forward(self, x: Tensor) -> Tensor:
        shape = list(self._normalized_shape)
        # What does not fit is left to Paddle, which says so.
        if not applies(x, self.weight, self.bias) or x.size < WORTH_A_CALL or x.shape[-len(shape) :] != shape:
            return super().forward(x)
        return tokens.LayerNorm.apply(x, self.weight, self.bias, math.prod(shape), self._epsilon)


class Linear(nn.Linear):
    """`nn.Linear` of many rows by matrix products."""

    def forward(self, x: Tensor) -> Tensor:
        inputs, outputs = self.weight.shape
        # What does not fit is left to Paddle, which says so.
        if not applies(x, self.weight, self.bias) or x.size * outputs < WORTH_PRODUCTS or x.shape[-1] != inputs:
            return super().forward(x)
        return tokens.Linear.apply(x, self.weight, self.bias)


#: Paddle's layer → its faster class; these pass batch-last maps on to each other.
FASTER: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.Conv2D: Conv2D,
    QuantizedConv2D: FakeQuantizedConv2D,
    nn.BatchNorm2D: BatchNorm2D,
    ActivatedNorm: FusedNorm,
    nn.AdaptiveAvgPool2D: MeanPool,
    nn.MaxPool2D: MaxPool2D,
    nn.AvgPool2D: AvgPool2D,
    Gate: FusedGate,
    DropConnect: BatchLastDropConnect,
}
PLAIN = {faster: plain for plain, faster in FASTER.items()}
#: Layers that compute the same of any tensor as Paddle's: they neither have nor change a layout.
ANY_LAYOUT: dict[type[nn.Layer], type[nn.Layer]] = {
    Pact: Clip, FakeQuantMovingAverageAbsMax: FakeQuantize, Rounding: KeptRounding, nn.GELU: GELU,
    nn.LayerNorm: LayerNorm, nn.Linear: Linear,
}  # fmt: skip


# `paddle.jit.to_static` cannot follow the kernels, and without a full graph it would try: it takes these layers as they
# are in static mode, as it does with one. (`force_dynamic` would leave them to the kernels, and import for 0.12 s.)
for _kind in (*FASTER.values(), *ANY_LAYOUT.values()):
    marker.unified(_kind, for_ast=False)
