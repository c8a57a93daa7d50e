"""Losses between feature maps of a network and those of its peer or teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target
from ..errors import ConfigError
from ..models.taps import Features
from .hints import hint
from .losses import scalar
from .relations import rkd_of_features

#: (layer → maps float32 [N, C, H, W], the peer's in the same order) → scalar
FeatureLoss = Callable[[Features, Features], Tensor]

#: Smallest squared norm of an attention map: where nothing is active there is no direction, and no gradient.
LEAST = 1e-24


def build(config: cfg.FeatureLoss, key: str = "features") -> FeatureLoss:
    """The feature loss that the config chooses below this key, without its weight."""
    match config:
        case cfg.AttentionTransfer():
            return functools.partial(attention_transfer, key=key)
        case cfg.Hint():
            return hint
        case cfg.RkdFeatures(distance=distance, angle=angle):
            return lambda features, peer: rkd_of_features(features, peer, distance, angle)
        case cfg.CustomFeatureLoss(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda features, peer: scalar(custom(features, peer, **kwargs), f"{key}.target={target}")
    raise AssertionError(config)


def attention_transfer(features: Features, peer: Features, key: str = "features") -> Tensor:
    """Attention transfer (Zagoruyko & Komodakis, Paying More Attention to Attention, ICLR 2017).

    The attention of maps is their sum of squares over channels, [N, H·W], divided by its L2 norm for each image. The
    loss is the mean squared difference of two attentions, summed over the pairs of layers; a scalar. Channels may
    differ; attentions of different sizes are averaged down to the smaller height and width. Errors: ConfigError, which
    names the config's `key`, for a pair that comes down to one pixel.
    """
    terms = []
    for (layer, own), (peer_layer, other) in zip(features.items(), peer.items(), strict=True):
        size = [min(sides) for sides in zip(own.shape[2:], other.shape[2:], strict=True)]
        if size == [1, 1]:
            raise ConfigError(
                f"{key}=attention_transfer: '{layer}' and the peer's '{peer_layer}' have one pixel in common, so every "
                f"attention map would be the same. Name earlier layers in {key}.layers, or raise data.image_size."
            )
        terms.append((_attention(own, size) - _attention(other, size)).square().mean())
    return paddle.add_n(terms)


def _attention(maps: Tensor, size: list[int]) -> Tensor:
    """Maps [N, C, H, W] to attentions [N, h·w] of norm 1."""
    energy = maps.square().sum(axis=1, keepdim=True)
    if energy.shape[2:] != size:
        energy = F.adaptive_avg_pool2d(energy, size)
    flat = energy.flatten(1)
    return flat * paddle.rsqrt(paddle.clip(flat.square().sum(axis=1, keepdim=True), min=LEAST))
