"""Gives the layers of a network their faster classes, and says where maps change to the batch-last layout."""

from __future__ import annotations

import warnings

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D

from ..models.input_check import preserved
from . import choice, fallback, layers, native
from .layers import ELEMENTWISE, FASTER, PLAIN, Accelerated, fits

#: Layers that are tried as the last one with the batch last, from the end of the network.
CANDIDATES = 3
#: Two logits are the same when they differ by less than this part of the largest: another layout gives other numbers.
TOLERANCE = 1e-2
#: Without these two trainings of the same batch are the same.
_RANDOM = (nn.Dropout, nn.Dropout2D, nn.AlphaDropout)


def accelerate(network: nn.Layer, image_size: int) -> None:
    """Turn the layers of a network into faster ones, in place; once more after its layers were replaced.

    Parameters, buffers and their names stay. image_size: side of the images in pixels. Between layers a network may
    compute what it likes, value by value: `x + y`, `F.relu(x)`. What depends on the layout, such as joining channels,
    would go wrong; so the logits are compared with Paddle's for random images, and where they differ each layer changes
    the layout for itself.
    """
    if native.unavailable():
        fallback.accelerate(network)
        return
    for layer in network.sublayers(include_self=True):
        kind = ELEMENTWISE.get(type(layer)) or FASTER.get(type(layer))
        if kind and fits(layer):
            layer.__class__ = kind
    generator = np.random.default_rng(0)
    images = paddle.to_tensor(generator.standard_normal((2, 3, image_size, image_size), dtype=np.float32))
    with preserved(network), choice.unmeasured(), paddle.no_grad(), warnings.catch_warnings():
        # Paddle 3.3.1 has something to say about running averages at every training pass.
        warnings.simplefilter("ignore")
        network.train()
        for layer in network.sublayers(include_self=True):
            layer.training = layer.training and not isinstance(layer, _RANDOM)
        expected, called = _traced(network, images)
        if not called:
            return
        entries = [layer for layer, x in called if x is images] or [called[0][0]]
        order = list(dict.fromkeys(layer for layer, _ in reversed(called)))
        for number in range(min(CANDIDATES, len(order))):
            _keep_between(order[number:], entries, order[:number])
            if _agrees(network, images, expected):
                return
    _keep_between([], [], order)
    for layer in order:
        if not isinstance(layer, (nn.Conv2D, QuantizedConv2D)):
            # Changing the layout costs more than these layers gain.
            layer.__class__ = PLAIN[type(layer)]


def _traced(network: nn.Layer, images: Tensor) -> tuple[Tensor, list[tuple[Accelerated, Tensor]]]:
    """What Paddle computes for the images, and each accelerated layer with its input in the order of the calls."""
    called: list[tuple[Accelerated, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: called.append((layer, inputs[0])))
        for layer in network.sublayers(include_self=True)
        if isinstance(layer, Accelerated)
    ]
    try:
        with layers.stock():
            return network(images), called
    finally:
        for hook in hooks:
            hook.remove()


def _keep_between(inside: list[Accelerated], entries: list[Accelerated], outside: list[Accelerated]) -> None:
    """`inside`, from the last layer to the first, pass the batch-last layout on; `outside` change it for themselves."""
    for layer in inside:
        layer.enters, layer.leaves = layer in entries, layer is inside[0]
    for layer in outside:
        layer.enters = layer.leaves = True


def _agrees(network: nn.Layer, images: Tensor, expected: Tensor) -> bool:
    try:
        found = network(images)
    except Exception:
        # A wrong layout fails wherever two shapes meet.
        return False
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) <= TOLERANCE * largest
