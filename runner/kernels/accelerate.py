"""Swapping the layers of a network for faster ones, and choosing where maps change to the batch-last layout."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.nn.quant.quant_layers import QuantizedConv2D

from ..models.efficientnet_lite import DropConnect
from ..models.input_check import preserved
from . import activations, autotune, blocks, fallback, layers, native, paddleclas
from .layers import FASTER, PLAIN, Accelerated
from .settings import fits

log = logging.getLogger("runner")

#: Layers that are tried as the last batch-last one, from the end of the network.
CANDIDATES = 3
#: Images of a comparison: with only two, normalisation of a 1×1 map would amplify the smallest difference.
IMAGES = 16
#: Largest difference of equal logits relative to their norm: rounding causes 1e-5, a wrong layout about 1.
TOLERANCE = 1e-3
#: Layers whose randomness would make two training passes of the same batch differ.
_RANDOM = (nn.Dropout, nn.Dropout2D, nn.AlphaDropout, DropConnect)
_CHANGING = (nn.Conv2D, QuantizedConv2D, nn.AdaptiveAvgPool2D, nn.MaxPool2D, nn.AvgPool2D)
#: Layer → its faster class.
_KINDS = FASTER | layers.ANY_LAYOUT | activations.FASTER | blocks.FASTER

#: Name of an accelerated layer → whether its input and its output are changed to and from the batch-last layout.
Layout = dict[str, tuple[bool, bool]]
_LAYOUT = "_batch_last_layout"


def accelerate(network: nn.Layer, input_shape: tuple[int, int, int]) -> None:
    """Swap the layers of a network for faster ones, in place; to be called again after its layers were replaced.

    Parameters, buffers and their names are unchanged. input_shape: [C, H, W] of the images. Between layers a network
    may compute anything element-wise: `x + y`, `F.relu(x)`. Operations that depend on the layout, such as concatenating
    channels, would be wrong; so the logits are compared with Paddle's for random images, and if they differ, each layer
    changes the layout for itself.
    """
    if native.unavailable():
        fallback.accelerate(network)
        return
    for layer in network.sublayers(include_self=True):
        kind: Any = type(layer)
        faster = _KINDS.get(kind) or paddleclas.faster(kind)
        if faster and fits(layer):
            layer.__class__ = faster
    if not any(_is_trained_by_kernels(layer) for layer in network.sublayers(include_self=True)):
        # Layers of another dtype would gain nothing, and the network does not take float32 images.
        _apply(network, {})
        return
    # Quantization replaces layers but keeps their order.
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
        # Paddle 3.3.1 warns about running averages in every training pass.
        warnings.simplefilter("ignore")
        expected, called = _traced(network, images)
        # Features of another rank than maps have no such layout.
        called = [(layer, x) for layer, x in called if x is None or x.ndim == 4]
        entries = [layer for layer, x in called if x is images] or [layer for layer, _ in called[:1]]
        order = list(dict.fromkeys(layer for layer, _ in reversed(called)))
        for number in range(min(CANDIDATES, len(order))):
            # Convolutions and pooling after the last batch-last layer change the layout for themselves; all others are
            # Paddle's.
            layout = {names[id(layer)]: (True, True) for layer in order[:number] if isinstance(layer, _CHANGING)}
            last, *rest = order[number:]
            layout |= {names[id(layer)]: (layer in entries, False) for layer in rest}
            layout[names[id(last)]] = (last in entries, True)
            if not isinstance(last, _CHANGING):
                continue
            _apply(network, layout)
            if _agrees(network, images, expected):
                return layout
    # For other layers changing the layout costs more than they gain.
    return {names[id(layer)]: (True, True) for layer in order if isinstance(layer, (nn.Conv2D, QuantizedConv2D))}


def _apply(network: nn.Layer, layout: Layout) -> None:
    """Tell every layer its layouts; one without becomes Paddle's again."""
    for name, layer in network.named_sublayers(include_self=True):
        if not isinstance(layer, Accelerated):
            continue
        if name in layout:
            layer.enters, layer.leaves = layout[name]
        else:
            layer.__class__ = PLAIN[type(layer)]


def _traced(network: nn.Layer, images: Tensor) -> tuple[list[Tensor], list[tuple[Accelerated, Tensor]]]:
    """Paddle's logits for the images, and each accelerated layer with its input, in the order of the calls."""
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
    """Logits in both modes: a network may compute something else in training."""
    logits = []
    # A training pass updates the running averages.
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
        # A wrong layout raises an error wherever shapes do not match.
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
    """Within the context no parameter is zero: a branch initialised with zeros would hide a wrong layout."""
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
