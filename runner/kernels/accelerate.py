"""Gives the layers of a network their faster classes, and says where maps change to the batch-last layout."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D

from ..models.efficientnet_lite import DropConnect
from ..models.input_check import preserved
from . import autotune, fallback, layers, native
from .layers import ELEMENTWISE, FASTER, PLAIN, Accelerated, fits

log = logging.getLogger("runner")

#: Layers that are tried as the last one with the batch last, from the end of the network.
CANDIDATES = 3
#: Images that are compared: with two, the normalisation of a map of one pixel makes much of the smallest difference.
IMAGES = 16
#: Logits that differ by less than this part of their norm are the same: rounding makes 1e-5 of it, a wrong layout all.
TOLERANCE = 1e-3
#: Without these two trainings of the same batch are the same.
_RANDOM = (nn.Dropout, nn.Dropout2D, nn.AlphaDropout, DropConnect)
_CHANGING = (nn.Conv2D, QuantizedConv2D, nn.AdaptiveAvgPool2D, nn.MaxPool2D)

#: Name of an accelerated layer → whether it enters the batch-last layout and whether it leaves it.
Layout = dict[str, tuple[bool, bool]]
_LAYOUT = "_batch_last_layout"


def accelerate(network: nn.Layer, input_shape: tuple[int, int, int]) -> None:
    """Turn the layers of a network into faster ones, in place; once more after its layers were replaced.

    Parameters, buffers and their names stay. input_shape: [C, H, W] of the images. Between layers a network may
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
    if not any(_is_trained_by_kernels(layer) for layer in network.sublayers(include_self=True)):
        # Weights of another type: there is nothing to gain, and images in float32 are not what the network takes.
        _apply(network, {})
        return
    # Quantization replaces layers, but not where they stand.
    layout = getattr(network, _LAYOUT, None)
    if layout is None:
        layout = _find_layout(network, input_shape)
        setattr(network, _LAYOUT, layout)
    _apply(network, layout)


def _is_trained_by_kernels(layer: nn.Layer) -> bool:
    return isinstance(layer, Accelerated) and bool(layer.parameters(include_sublayers=False))


def _find_layout(network: nn.Layer, input_shape: tuple[int, int, int]) -> Layout:
    names = {id(layer): name for name, layer in network.named_sublayers(include_self=True)}
    generator = np.random.default_rng(0)
    images = paddle.to_tensor(generator.standard_normal((IMAGES, *input_shape), dtype=np.float32))
    with (
        preserved(network),
        _nonzero_parameters(network),
        autotune.autotuning_off(),
        layers.unquantized(),
        paddle.no_grad(),
        warnings.catch_warnings(),
    ):
        # Paddle 3.3.1 has something to say about running averages at every training pass.
        warnings.simplefilter("ignore")
        expected, called = _traced(network, images)
        entries = [layer for layer, x in called if x is images] or [layer for layer, _ in called[:1]]
        order = list(dict.fromkeys(layer for layer, _ in reversed(called)))
        for number in range(min(CANDIDATES, len(order))):
            # Convolutions and pooling behind the last one change the layout for themselves, the rest is Paddle's.
            layout = {names[id(layer)]: (True, True) for layer in order[:number] if isinstance(layer, _CHANGING)}
            last, *rest = order[number:]
            layout |= {names[id(layer)]: (layer in entries, False) for layer in rest}
            layout[names[id(last)]] = (last in entries, True)
            if not isinstance(last, _CHANGING):
                continue
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


def _traced(network: nn.Layer, images: Tensor) -> tuple[list[Tensor], list[tuple[Accelerated, Tensor]]]:
    """What Paddle computes for the images, and each accelerated layer with its input in the order of the calls."""
    called: list[tuple[Accelerated, Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: called.append((layer, inputs[0] if inputs else None)))
        for layer in network.sublayers(include_self=True)
        if isinstance(layer, Accelerated)
    ]
    try:
        with layers.stock():
            return _logits(network, images), called
    finally:
        for hook in hooks:
            hook.remove()


def _logits(network: nn.Layer, images: Tensor) -> list[Tensor]:
    """Of both modes: a network may do other things while training."""
    logits = []
    # A training pass moves the running averages.
    with preserved(network):
        for training in (False, True):
            network.train() if training else network.eval()
            for layer in network.sublayers(include_self=True):
                layer.training = layer.training and not isinstance(layer, _RANDOM)
            logits.append(network(images))
    return logits


def _agrees(network: nn.Layer, images: Tensor, expected: list[Tensor]) -> bool:
    try:
        logits = _logits(network, images)
    except Exception as error:
        # A wrong layout fails wherever two shapes meet.
        log.debug("this layout does not fit: %s", error)
        return False
    return all(
        isinstance(ours, Tensor)
        and ours.shape == theirs.shape
        and float((ours - theirs).astype("float32").norm()) <= TOLERANCE * float(theirs.astype("float32").norm())
        for ours, theirs in zip(logits, expected, strict=True)
    )


@contextlib.contextmanager
def _nonzero_parameters(network: nn.Layer) -> Iterator[None]:
    """Within the context no scale, shift or weight is zero: a branch that begins with none would hide its layout."""
    generator = np.random.default_rng(1)
    kept = [
        (parameter, parameter.clone())
        for parameter in network.parameters()
        if not parameter.stop_gradient and (parameter.ndim <= 1 or float(parameter.abs().max()) < 1e-3)
    ]
    try:
        for parameter, _ in kept:
            values = paddle.to_tensor(generator.uniform(0.5, 1.5, parameter.shape).astype(np.float32))
            parameter.set_value(values.astype(parameter.dtype))
        yield
    finally:
        for parameter, before in kept:
            parameter.set_value(before)
