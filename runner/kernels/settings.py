"""Which settings of Paddle's layers the kernels support."""

from __future__ import annotations

import math
from typing import Any

import paddle
from paddle import nn
from paddle.nn.quant.quant_layers import FakeQuantMovingAverageAbsMax, QuantizedConv2D

from .native import NOWHERE

#: Padding modes that depend on the size of the map.
SAME = "SAME"


def fits(layer: nn.Layer) -> bool:
    """Whether the kernels support a layer's settings, and its parameters are float32."""
    if any(parameter.dtype != paddle.float32 for parameter in layer.parameters(include_sublayers=False)):
        return False
    match layer:
        case nn.Conv2D() | QuantizedConv2D():
            padded = _is_pair(layer._padding) or (layer._padding == SAME and pair(layer._dilation) == (1, 1))
            return (
                layer._data_format == "NCHW" and layer._padding_mode == "zeros" and padded
                and getattr(layer, "_weight_preprocess", None) is None
            )  # fmt: skip
        case nn.BatchNorm2D():
            is_usual = layer.weight is not None and layer.bias is not None and layer._data_format == "NCHW"
            return is_usual and layer._use_global_stats is None
        case nn.AdaptiveAvgPool2D():
            return layer._output_size in (1, (1, 1), [1, 1]) and layer._data_format == "NCHW"
        case nn.MaxPool2D():
            plain = not (layer.return_mask or layer.ceil_mode) and layer.data_format == "NCHW"
            pairs = _is_pair(layer.padding) and _is_pair(layer.ksize)
            return plain and pairs and math.prod(pair(layer.ksize)) <= NOWHERE
        case nn.AvgPool2D():
            return layer.data_format == "NCHW"
        case FakeQuantMovingAverageAbsMax():
            return layer._reduce_type is None
    return True


def _is_pair(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) for v in value))


def pair(value: Any) -> tuple[int, int]:
    """Rows and columns of a setting that may be one number for both."""
    return (value, value) if isinstance(value, int) else (value[0], value[1])
