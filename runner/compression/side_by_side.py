"""Outputs of single layers, to compare the float network with the quantized one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from paddle import Tensor, nn

from ..models.input_check import evaluating


class _Seen(Exception):
    """Raised when a layer has computed: the layers after it are not needed."""


def output(network: nn.Layer, layer: nn.Layer, images: Tensor) -> Tensor:
    """The output of a layer for images at its first call, in eval mode; nothing after it is computed."""
    seen: list[Tensor] = []

    def see(_layer: nn.Layer, _inputs: Any, maps: Tensor) -> None:
        seen.append(maps)
        raise _Seen

    with suppress(_Seen), evaluating(network, [layer.register_forward_post_hook(see)]):
        network(images)
    return seen[0]


def in_order(network: nn.Layer, layers: Mapping[str, nn.Layer], images: Tensor) -> list[str]:
    """Names of layers in the order of their first calls for images, which need not be the one they are defined in."""
    called: dict[str, None] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _layer, _inputs, own=name: called.setdefault(own))
        for name, layer in layers.items()
    ]
    with evaluating(network, hooks):
        network(images)
    return list(called)


def norm_behind(network: nn.Layer, layer: nn.Layer, images: Tensor) -> nn.Layer | None:
    """The batch normalisation that directly follows a layer at its first call, or None."""
    outputs: list[Tensor] = []
    norms: list[nn.Layer] = []

    def write(_layer: nn.Layer, _inputs: Any, tensor: Tensor) -> None:
        outputs.append(tensor)

    def read(norm: nn.Layer, inputs: tuple[Tensor, ...]) -> None:
        if any(inputs[0] is tensor for tensor in outputs):
            norms.append(norm)
            raise _Seen

    hooks = [layer.register_forward_post_hook(write)]
    hooks += [one.register_forward_pre_hook(read) for one in network.sublayers() if isinstance(one, nn.BatchNorm2D)]
    with suppress(_Seen), evaluating(network, hooks):
        network(images)
    return norms[0] if norms else None
