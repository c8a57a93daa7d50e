"""CPU kernels."""
from __future__ import annotations
import paddle
from paddle import nn
from . import layers
from .layers import stock


def accelerate(network: nn.Layer, image_size: int) -> None:
    for layer in network.sublayers(include_self=True):
        if type(layer) in layers.ELEMENTWISE and layers.fits(layer):
            layer.__class__ = layers.ELEMENTWISE[type(layer)]
        if type(layer) in layers.FASTER and layers.fits(layer):
            layer.__class__ = layers.FASTER[type(layer)]
