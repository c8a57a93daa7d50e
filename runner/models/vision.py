"""The classification networks of `paddle.vision.models`, by name."""

from __future__ import annotations

import inspect
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.vision import models

from ..errors import ConfigError, nearest


def names() -> list[str]:
    """Every function of `paddle.vision.models` that makes a network."""
    return sorted(name for name in models.__all__ if inspect.isfunction(getattr(models, name)))


def build(architecture: str, num_classes: int, kwargs: dict[str, Any]) -> nn.Layer:
    """A network with random weights. Images [N, 3, H, W] float32 give logits [N, num_classes].

    Errors: ConfigError for a name or an argument that Paddle does not have, and for `pretrained`, which would download.
    """
    if architecture not in names():
        raise ConfigError(
            f"model.architecture={architecture}: paddle.vision.models has no such network.{nearest(architecture, names())}"
            f"\nValid: {', '.join(names())}"
        )
    if kwargs.get("pretrained"):
        raise ConfigError(
            "model.kwargs.pretrained=true would download weights. Give a file of weights: checkpoint.init_from=FILE"
        )
    try:
        network = getattr(models, architecture)(num_classes=num_classes, **kwargs)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"model.kwargs={kwargs} do not fit {architecture}: {error}") from error
    return _main_output_only(network) if isinstance(network, models.GoogLeNet) else network


def _main_output_only(network: nn.Layer) -> nn.Layer:
    """Make GoogLeNet return its main logits; its auxiliary heads, which would never train, are taken away."""
    network.register_forward_post_hook(lambda _layer, _inputs, outputs: _first(outputs))
    return network


def _first(outputs: Tensor | tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    return outputs if isinstance(outputs, paddle.Tensor) else outputs[0]
