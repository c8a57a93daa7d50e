"""The first convolution of a network for images of another number of channels."""

from __future__ import annotations

from paddle import ParamAttr, nn
from paddle.nn.initializer import KaimingNormal

from ..errors import ConfigError


def adapt(network: nn.Layer, channels: int) -> None:
    """Let a network for RGB images take [N, channels, H, W], in place; the new weights are drawn as He et al. propose.

    Errors: ConfigError where no convolution sees three channels.
    """
    stems = [layer for layer in network.sublayers() if isinstance(layer, nn.Conv2D) and layer.weight.shape[1] == 3]
    if not stems:
        raise ConfigError(
            f"data.channels={channels}: {type(network).__name__} has no convolution over three channels that could be "
            "changed. Choose another model, or data.channels=3."
        )
    for stem in stems:
        stem._in_channels = channels
        shape = [stem.weight.shape[0], channels, *stem.weight.shape[2:]]
        stem.weight = stem.create_parameter(shape, attr=ParamAttr(initializer=KaimingNormal()))
