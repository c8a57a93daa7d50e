"""Lets networks return the features that a mode's losses use, and checks before training that they can."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

from .. import config as cfg
from ..errors import ConfigError, UserError, telling_line
from ..kernels import taps
from ..models import Networks, Output
from ..models.input_check import preserved
from ..models.taps import Features, Reader, check_names
from ..training import feature_losses
from ..training.modes import Mode, compared, followed, layers_of, pairs, term_of


def check(config: cfg.Config, networks: Networks) -> None:
    """Errors: ConfigError for a layer that a network does not have."""
    for key, settings in config.feature_losses.items():
        for name in compared(config.mode, settings):
            # The average is created from the student later, and has the same layers.
            network, layers = networks[name if name in networks else "student"], layers_of(settings, name)
            remedy = "" if name == "student" else _remedy(config, key, name, networks)
            check_names(network, name, layers, _layers_key(key, settings, name), remedy)


def _remedy(config: cfg.Config, key: str, name: str, networks: Networks) -> str:
    """How to name layers of a peer or teacher that lacks those that a term names."""
    settings = config.feature_losses[key]
    if not isinstance(config.mode, cfg.ClsTeacher) or not any(
        {layer for layer, _ in networks[other].named_sublayers()}.issuperset(layers_of(settings, other))
        for other in followed(config.mode, settings)
    ):
        return "" if settings.peer_layers else f" If it has other names than the student: {key}.peer_layers=[…]"
    others = ",".join(other for other in followed(config.mode, settings) if other != name)
    own = f"also.features.{name if name not in config.also.features else 'NAME'}"
    target = f"{own}.target={settings.target} " if isinstance(settings, cfg.CustomFeatureLoss) else ""
    return (
        f"\nOther teachers have it; give this one a term of its own:\n  {key}.teachers=[{others}] "
        f"+features@{own}={settings.kind} {target}{own}.teachers=[{name}] {own}.layers=[{','.join(settings.layers)}] "
        f"{own}.peer_layers=[…]"
    )


def tap(config: cfg.Config, mode: Mode, networks: Networks) -> None:
    """Let the networks, as they will be trained, return the features that the mode's losses use.

    Hints get their adapters, whose channels are known only now. Every loss is tried once on random images; the networks
    are left unchanged. Errors: ConfigError for layers, or a loss, that do not fit.
    """
    if not mode.taps:
        return
    shape = config.data.input_shape
    with preserved(networks):
        networks.train()
        for name, layers in mode.taps.items():
            readers: dict[str, Reader] = {}
            for layer in layers:
                readers |= taps.readers(networks[name], [layer], shape, name, _key(config, name, layer))
            networks.tap(name, readers)
        images = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
        with paddle.no_grad():
            outputs = networks(paddle.to_tensor(images))
            for key, settings in config.feature_losses.items():
                for name, peer in pairs(config.mode, settings):
                    own, other = _features(settings, outputs, name), _features(settings, outputs, peer)
                    if isinstance(settings, cfg.Hint):
                        mode.adapters.add(term_of(key), name, peer, own, other, config.train.seed)
                    own = mode.adapters.adapted(term_of(key), name, peer, own)
                    _try(key, settings, name, peer, own, other)


def _features(settings: cfg.FeatureLoss, outputs: dict[str, Output], network: str) -> Features:
    return {layer: outputs[network].features[layer] for layer in layers_of(settings, network)}


def _try(key: str, settings: cfg.FeatureLoss, name: str, peer: str, own: Features, other: Features) -> None:
    """Errors: ConfigError if a feature loss between a network and its peer raises or is not a finite scalar."""
    shapes = ", ".join(
        f"'{layer}' {list(maps.shape)} and '{peer_layer}' {list(peer_maps.shape)}"
        for (layer, maps), (peer_layer, peer_maps) in zip(own.items(), other.items(), strict=True)
    )
    try:
        loss = feature_losses.build(settings, key)(own, other)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{key}={settings.kind} fails for {name} and {peer} with {shapes}.\n"
            f"The reason: {type(error).__name__}: {telling_line(error)}\n"
            f"Name layers that it can compare in {key}.layers (and {key}.peer_layers)."
        ) from error
    if not isinstance(loss, Tensor) or loss.shape:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ConfigError(f"{key}={settings.kind} returns {shape}, expected a scalar: return a mean, loss.mean().")


def _key(config: cfg.Config, network: str, layer: str) -> str:
    """The config key that names a layer of a network; the first one if several do."""
    return next(
        _layers_key(key, one, network)
        for key, one in config.feature_losses.items()
        if network in compared(config.mode, one) and layer in layers_of(one, network)
    )


def _layers_key(key: str, settings: cfg.FeatureLoss, network: str) -> str:
    """The config key that names the layers of a network in the term of this key."""
    return f"{key}.peer_layers" if network != "student" and settings.peer_layers else f"{key}.layers"
