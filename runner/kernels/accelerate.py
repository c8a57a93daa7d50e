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
#: Images that are compared: with two, the normalisation of a map of one pixel makes much of the smallest difference.
IMAGES = 16
#: Logits that differ by less than this part of their norm are the same: rounding makes 1e-5 of it, a wrong layout all.
TOLERANCE = 1e-3
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
    # Quantization replaces layers, but not where they stand.
    layout = getattr(network, _LAYOUT, None)
    if layout is None:
        layout = _find_layout(network, image_size)
        setattr(network, _LAYOUT, layout)
    _apply(network, layout)


#: Name of an accelerated layer → whether it enters the batch-last layout and whether it leaves it.
Layout = dict[str, tuple[bool, bool]]
_LAYOUT = "_batch_last_layout"


def _find_layout(network: nn.Layer, image_size: int) -> Layout:
    names = {id(layer): name for name, layer in network.named_sublayers(include_self=True)}
    generator = np.random.default_rng(0)
    images = paddle.to_tensor(generator.standard_normal((IMAGES, 3, image_size, image_size), dtype=np.float32))
    with preserved(network), choice.unmeasured(), layers.unquantized(), paddle.no_grad(), warnings.catch_warnings():
        # Paddle 3.3.1 has something to say about running averages at every training pass.
        warnings.simplefilter("ignore")
        network.train()
        for layer in network.sublayers(include_self=True):
            layer.training = layer.training and not isinstance(layer, _RANDOM)
        expected, called = _traced(network, images)
        entries = [layer for layer, x in called if x is images] or [layer for layer, _ in called[:1]]
        order = list(dict.fromkeys(layer for layer, _ in reversed(called)))
        for number in range(min(CANDIDATES, len(order))):
            # The layers behind the last one change the layout for themselves.
            layout = {names[id(layer)]: (True, True) for layer in order[:number]}
            last, *rest = order[number:]
            layout |= {names[id(layer)]: (layer in entries, False) for layer in rest}
            layout[names[id(last)]] = (last in entries, True)
            _apply(network, layout)
            if _agrees(network, images, expected):
                return layout
    # Changing the layout costs more than other layers gain.
    return {names[id(layer)]: (True, True) for layer in order if isinstance(layer, (nn.Conv2D, QuantizedConv2D))}


def _apply(network: nn.Layer, layout: Layout) -> None:
    """Tell every layer its layouts; one that has none becomes Paddle's again."""
    for name, layer in network.named_sublayers(include_self=True):
        if not isinstance(layer, Accelerated):
            continue
        if name in layout:
            layer.enters, layer.leaves = layout[name]
        else:
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


def _agrees(network: nn.Layer, images: Tensor, expected: Tensor) -> bool:
    try:
        found = network(images)
    except Exception:
        # A wrong layout fails wherever two shapes meet.
        return False
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return False
    return float((found - expected).norm()) <= TOLERANCE * float(expected.norm())
