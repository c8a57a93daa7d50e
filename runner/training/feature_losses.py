"""Losses between feature maps of a network and those of its peer or teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable

import paddle
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target
from ..errors import ConfigError
from ..models.taps import Features
from .hints import hint, pooled
from .losses import scalar
from .relations import rkd_of_features, unit

#: (layer → maps float32 [N, C, H, W], the peer's in the same order) → scalar
FeatureLoss = Callable[[Features, Features], Tensor]


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
        energies = [maps.square().sum(axis=1, keepdim=True) for maps in (own, other)]
        pair = pooled(*energies), pooled(*reversed(energies))
        if pair[0].shape[2:] == [1, 1]:
            raise ConfigError(
                f"{key}=attention_transfer: '{layer}' and the peer's '{peer_layer}' have one pixel in common, so every "
                f"attention map would be the same. Name earlier layers in {key}.layers, or raise data.image_size."
            )
        attention, of_peer = (unit(energy.flatten(1)) for energy in pair)
        terms.append((attention - of_peer).square().mean())
    return paddle.add_n(terms)
