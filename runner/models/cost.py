"""What a network costs: multiply-accumulate operations (MACs) and parameters."""

from __future__ import annotations

import math
from collections import defaultdict

import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D, QuantizedLinear

from .input_check import evaluating


def macs(network: nn.Layer, input_shape: tuple[int, int, int]) -> int:
    """MACs of convolutions and linear layers for one image [1, C, H, W].

    As usual, normalisation, activations and pooling are not counted; neither is what a user-defined network computes
    outside of such layers. The network is unchanged.
    """
    return sum(macs_by_weight(network, input_shape).values())


def macs_by_weight(network: nn.Layer, input_shape: tuple[int, int, int]) -> dict[str, int]:
    """MACs by the name of the layer's weight."""
    totals: dict[str, int] = defaultdict(int)
    counted = (nn.Conv2D, nn.Linear, QuantizedConv2D, QuantizedLinear)
    layers = {
        layer: name for name, layer in network.named_sublayers(include_self=True) if isinstance(layer, counted)
    }  # fmt: skip

    def count(layer: nn.Layer, _inputs: object, output: Tensor) -> None:
        # Weights are [filters, channels, k, k] or [inputs, outputs]: the number of products in one output value.
        shape = layer.weight.shape
        per_value = shape[0] if isinstance(layer, (nn.Linear, QuantizedLinear)) else math.prod(shape[1:])
        totals[f"{layers[layer]}.weight" if layers[layer] else "weight"] += math.prod(output.shape) * per_value

    hooks = [layer.register_forward_post_hook(count) for layer in layers]
    with evaluating(network, hooks):
        network(paddle.zeros([1, *input_shape], "float32"))
    return dict(totals)
