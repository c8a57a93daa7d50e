"""What a network costs: multiply-accumulate operations (MACs) and parameters."""

from __future__ import annotations

import math

import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear

from .input_check import preserved


def macs(network: nn.Layer, input_shape: tuple[int, int, int]) -> int:
    """MACs of convolutions and linear layers for one image [1, C, H, W].

    Normalisation, activations and pooling are not counted, as is the custom; nor is what a network of one's own
    computes without such layers. The network is afterwards as before.
    """
    total = 0

    def count(layer: nn.Layer, _inputs: object, output: Tensor) -> None:
        nonlocal total
        # Weights are [filters, channels, k, k] or [inputs, outputs]: what one output value is a sum over.
        shape = layer.weight.shape
        per_value = shape[0] if isinstance(layer, (nn.Linear, QuantizedLinear)) else math.prod(shape[1:])
        total += math.prod(output.shape) * per_value

    counted = (nn.Conv2D, nn.Linear, QuantizedConv2D, QuantizedLinear)
    layers = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, counted)]
    hooks = [layer.register_forward_post_hook(count) for layer in layers]
    try:
        with preserved(network), paddle.no_grad():
            network.eval()
            network(paddle.zeros([1, *input_shape]))
    finally:
        for hook in hooks:
            hook.remove()
    return total
