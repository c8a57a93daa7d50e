"""Adapting the first layers of a network: to another number of channels, and to small images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paddle import ParamAttr, nn
from paddle.nn.initializer import KaimingNormal

from ..errors import ConfigError

#: Kernel size of a stem for small images.
SMALL_KERNEL = 3


def adapt(network: nn.Layer, channels: int) -> None:
    """Let a network for RGB images take [N, channels, H, W], in place; new weights are drawn as He et al. propose.

    Errors: ConfigError if no convolution has three input channels.
    """
    stems = list(_stems(network))
    if not stems:
        raise ConfigError(
            f"data.channels={channels}: {type(network).__name__} has no convolution over three channels that could be "
            "changed. Choose another model, or data.channels=3."
        )
    for parent, name, _ in stems:
        _change(parent, name, in_channels=channels)


def for_small_images(network: nn.Layer) -> None:
    """Let a network keep the resolution of images that its stem would reduce, in place.

    The first convolution gets stride 1, and a kernel of at most 3×3; a max pooling that follows it is removed. He et
    al. (CVPR 2016, section 4.2) did so for CIFAR-10. Maps are then 2 to 4 times as large, and everything after the stem
    costs 4 to 16 times as much. Errors: ConfigError if there is nothing to change.
    """
    changed = False
    for parent, name, following in list(_stems(network)):
        stem = parent._sub_layers[name]
        if max(stem._stride) > 1:
            kernel = min(SMALL_KERNEL, *stem._kernel_size)
            _change(parent, name, kernel_size=kernel, stride=1, padding=kernel // 2)
            changed = True
        if following:
            owner, pooling = following
            owner._sub_layers[pooling] = nn.Identity()
            changed = True
    if not changed:
        raise ConfigError(
            f"model.stem=small: the first convolution of {type(network).__name__} already keeps the size of "
            "images. Remove it."
        )


def parameters(network: nn.Layer, channels: int) -> list[str]:
    """Names of the weights of the convolutions that take images of `channels` channels; no depthwise ones."""
    return [
        f"{name}.weight"
        for name, layer in network.named_sublayers()
        if isinstance(layer, nn.Conv2D) and layer._groups == 1 and layer._in_channels == channels
    ]


def _stems(network: nn.Layer) -> Iterator[tuple[nn.Layer, str, tuple[nn.Layer, str] | None]]:
    """Parent and name of each convolution over three channels, and of the max pooling next to it."""
    children = [
        (parent, name, layer)
        for parent in network.sublayers(include_self=True)
        for name, layer in parent._sub_layers.items()
        if isinstance(layer, (nn.Conv2D, nn.MaxPool2D))
    ]
    order = {id(layer): number for number, layer in enumerate(network.sublayers())}
    children.sort(key=lambda child: order[id(child[2])])
    for number, (parent, name, layer) in enumerate(children):
        if isinstance(layer, nn.Conv2D) and layer.weight.shape[1] == 3:
            following = children[number + 1] if number + 1 < len(children) else None
            is_pooling = following is not None and isinstance(following[2], nn.MaxPool2D)
            yield parent, name, following[:2] if following and is_pooling else None


def _change(parent: nn.Layer, name: str, **changes: Any) -> None:
    """Replace a convolution by one with some arguments changed, and new weights."""
    old = parent._sub_layers[name]
    arguments = {
        "in_channels": old._in_channels,
        "out_channels": old._out_channels,
        "kernel_size": old._kernel_size,
        "stride": old._stride,
        "padding": old._padding,
        "groups": old._groups,
        "bias_attr": None if old.bias is not None else False,
    }
    new = nn.Conv2D(**(arguments | changes), weight_attr=ParamAttr(initializer=KaimingNormal()))
    if old.bias is not None:
        new.bias = old.bias
    parent._sub_layers[name] = new
