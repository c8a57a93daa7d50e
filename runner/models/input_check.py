"""Checks before training whether a network accepts the images it will get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import Tensor, nn

from ..errors import ConfigError, UserError, telling_line


def check_input(
    network: nn.Layer, input_shape: tuple[int, int, int], num_classes: int | None, remedy: str = ""
) -> None:
    """Errors: ConfigError unless two images [2, C, H, W] give logits [2, num_classes], of any number if that is None.

    One forward pass in eval mode; training flags, buffers and Paddle's random state are restored.
    """
    images = paddle.zeros([2, *input_shape], "float32")
    channels, height, width = input_shape
    size = str(height if height == width else [height, width]).replace(" ", "")
    remedy = remedy or f"choose another data.image_size (it is {size}) or another model."
    try:
        with evaluating(network, _refusing_empty_maps(network)):
            logits = network(images)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{type(network).__name__} cannot take images of {height}x{width} pixels and {channels} channels: "
            f"{remedy}\nThe reason: {telling_line(error)}"
        ) from error
    shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if num_classes is not None and shape != [2, num_classes]:
        raise ConfigError(
            f"{type(network).__name__} returns {shape} for two images, expected logits [2, {num_classes}]: {remedy}"
        )


def _refusing_empty_maps(network: nn.Layer) -> list[Any]:
    """Refuse empty maps, with which Paddle silently continues.

    InceptionV3 gives logits for images that are too small for it.
    """

    def refuse(layer: nn.Layer, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.size == 0:
            raise ValueError(f"nothing is left of the images after {type(layer).__name__} {layer.full_name()}")

    return [layer.register_forward_post_hook(refuse) for layer in network.sublayers(include_self=True)]


@contextmanager
def evaluating(network: nn.Layer, hooks: Iterable[Any], batch_statistics: bool = False) -> Iterator[None]:
    """Within the context a network is in eval mode, without gradients; afterwards all is as `preserved` says.

    `hooks` are handles of hooks on its layers, which are removed at the end. With `batch_statistics` normalisation uses
    each batch's own statistics, as in training: the running averages of an untrained network mean nothing.
    """
    try:
        with preserved(network), paddle.no_grad():
            network.eval()
            for layer in network.sublayers(include_self=True):
                layer.training = batch_statistics and isinstance(layer, nn.layer.norm._BatchNormBase)
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def preserved(network: nn.Layer) -> Iterator[None]:
    """After the context training flags, running averages and Paddle's random state are as before."""
    layers = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    # Paddle keeps running averages among the parameters.
    untrained = [parameter for parameter in network.parameters() if parameter.stop_gradient]
    kept = [(tensor, tensor.clone()) for tensor in (*network.buffers(), *untrained)]
    random_state = paddle.get_rng_state()
    try:
        yield
    finally:
        for layer, training in layers:
            layer.training = training
        for tensor, before in kept:
            tensor.set_value(before)
        paddle.set_rng_state(random_state)
