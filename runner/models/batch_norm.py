"""Paddle's oldest batch normalisation as its newer one, which is what pruning, quantization and the kernels know."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import nn

from .mobilenet_v3 import ActivatedNorm, identity

#: Names of activations that `nn.BatchNorm` takes, those whose defaults are the same in `paddle.nn.functional`.
ACTIVATIONS = {
    None: identity, "relu": F.relu, "relu6": F.relu6, "hard_swish": F.hardswish, "swish": F.swish,
    "sigmoid": F.sigmoid, "tanh": F.tanh,
}  # fmt: skip


def convert(network: nn.Layer) -> None:
    """Put an equal `ActivatedNorm` in the place of every `paddle.nn.BatchNorm`, in place.

    `nn.BatchNorm`, which most networks of PaddleClas have, shares no base class with `nn.BatchNorm2D` but `nn.Layer`.
    Parameters, running averages and all names are kept. One with another activation, or whose statistics are trained,
    stays as it is.
    """
    replaced: dict[int, nn.Layer] = {}
    for parent in network.sublayers(include_self=True):
        for name, layer in list(parent._sub_layers.items()):
            if type(layer) is nn.BatchNorm and layer._act in ACTIVATIONS and not layer._trainable_statistics:
                parent._sub_layers[name] = replaced.setdefault(id(layer), _equal(layer))


def _equal(layer: nn.BatchNorm) -> ActivatedNorm:
    norm = ActivatedNorm(layer._mean.shape[0], ACTIVATIONS[layer._act], layer._epsilon)
    norm.weight, norm.bias, norm._mean, norm._variance = layer.weight, layer.bias, layer._mean, layer._variance
    norm._momentum, norm._data_format = layer._momentum, layer._data_layout
    norm._use_global_stats = layer._use_global_stats or None
    norm.training = layer.training
    return norm
