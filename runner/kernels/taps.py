"""Taps on accelerated layers: converting batch-last outputs to [N, C, H, W]."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from ..errors import ConfigError
from ..models.input_check import preserved
from ..models.taps import Reader
from . import autotune, functions, layers


def readers(
    network: nn.Layer, names: Sequence[str], input_shape: tuple[int, int, int], owner: str, key: str
) -> dict[str, Reader]:
    """Layer → the function that converts its output to maps [N, C, H, W], in the network's current mode.

    It does nothing unless accelerated layers pass on [C, H, W, N]. input_shape: [C, H, W] of the images; `owner` and
    `key` name network and layers in messages. The network is afterwards as before. Errors: ConfigError for a layer that
    is not called exactly once a pass, or whose output is not maps.
    """
    with layers.stock():
        outputs = _outputs(network, names, input_shape, images=2)
    for name, calls in outputs.items():
        if problem := _problem(calls):
            raise ConfigError(f"{key}: '{name}' of {owner} ({type(network).__name__}) {problem}")
    # A number of images that no layer has as channels, so that the first axis tells whether it is the batch.
    channels = {calls[0].shape[1] for calls in outputs.values()}
    images = next(count for count in itertools.count(2) if count not in channels)
    with autotune.autotuning_off():
        outputs = _outputs(network, names, input_shape, images)
    return {name: _as_it_is if calls[0].shape[0] == images else batch_first for name, calls in outputs.items()}


def _problem(outputs: list[Any]) -> str | None:
    """Why a layer's outputs in one pass over two images are not maps."""
    if len(outputs) != 1:
        return f"is called {len(outputs)} times a pass: name a layer that is called once, such as the one around it."
    [output] = outputs
    if not isinstance(output, Tensor):
        return f"gives a {type(output).__name__}, not maps [N, C, H, W]: name another layer."
    if output.ndim != 4 or output.shape[0] != 2 or not output.is_floating_point():
        return f"gives {output.dtype} {list(output.shape)} of two images, not maps [N, C, H, W]: name an earlier layer."
    return None


def _outputs(
    network: nn.Layer, names: Sequence[str], input_shape: tuple[int, int, int], images: int
) -> dict[str, list[Any]]:
    """Layer → its outputs, one for each call, in one pass over some images."""
    outputs: dict[str, list[Any]] = {name: [] for name in names}
    pictures = np.random.default_rng(0).standard_normal((images, *input_shape), dtype=np.float32)
    sublayers = dict(network.named_sublayers())
    hooks = [
        sublayers[name].register_forward_post_hook(
            lambda _layer, _inputs, output, own=outputs[name]: own.append(output)
        )
        for name in names
    ]
    try:
        with preserved(network), paddle.no_grad():
            network(paddle.to_tensor(pictures))
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def batch_first(maps: Tensor) -> Tensor:
    """Maps [C, H, W, N] of accelerated layers as [N, C, H, W], unless they compute as Paddle does."""
    if not layers.batch_last():
        return maps
    # The kernels support only float32; the layout does not depend on the dtype.
    return functions.ToBatchFirst.apply(maps) if maps.dtype == paddle.float32 else maps.transpose([3, 0, 1, 2])


def _as_it_is(maps: Tensor) -> Tensor:
    return maps
