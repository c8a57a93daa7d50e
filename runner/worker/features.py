"""Lets networks give the features that a mode's losses look at, and finds out before training whether they can."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

from .. import config as cfg
from ..errors import ConfigError, UserError
from ..kernels import taps
from ..models import Networks, Output
from ..models.input_check import preserved, reason
from ..models.taps import check_names
from ..training import feature_losses
from ..training.modes import Mode


def check(config: cfg.Config, mode: Mode, networks: Networks) -> None:
    """Errors: ConfigError for a layer that a network does not have."""
    for name, layers in mode.taps.items():
        other_names = " Where they are called otherwise than the student's: features.peer_layers=[…]"
        check_names(networks[name], name, layers, _key(config, name), "" if name == "student" else other_names)


def tap(config: cfg.Config, mode: Mode, networks: Networks) -> None:
    """Let the networks, as they will be trained, give the features that the mode's losses look at.

    The loss is tried once on random images; nothing of the networks changes. Errors: ConfigError for layers, or a loss,
    that do not fit.
    """
    if config.features is None:
        return
    shape = config.data.input_shape
    with preserved(networks):
        networks.train()
        for name, layers in mode.taps.items():
            networks.tap(name, taps.readers(networks[name], layers, shape, name, _key(config, name)))
        images = np.random.default_rng(0).standard_normal((2, *shape), dtype=np.float32)
        with paddle.no_grad():
            outputs = networks(paddle.to_tensor(images))
            student, peer = mode.taps
            _try(config.features, outputs, student, peer)
            if peer in networks.trained:
                _try(config.features, outputs, peer, student)


def _try(settings: cfg.FeatureLoss, outputs: dict[str, Output], name: str, peer: str) -> None:
    """Errors: ConfigError where the loss of a network against its peer raises or is no number."""
    own, other = outputs[name].features, outputs[peer].features
    shapes = ", ".join(
        f"'{layer}' {list(maps.shape)} and '{peer_layer}' {list(peer_maps.shape)}"
        for (layer, maps), (peer_layer, peer_maps) in zip(own.items(), other.items(), strict=True)
    )
    try:
        loss = feature_losses.build(settings)(own, other)
    except UserError:
        raise
    except Exception as error:
        raise ConfigError(
            f"features={settings.kind} fails for {name} and {peer} with {shapes}.\n"
            f"The reason: {type(error).__name__}: {reason(error)}\n"
            "Name layers that it can compare in features.layers (and features.peer_layers)."
        ) from error
    if not isinstance(loss, Tensor) or loss.shape:
        shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ConfigError(f"features={settings.kind} gives {shape} where a scalar is due: return a mean, loss.mean().")


def _key(config: cfg.Config, network: str) -> str:
    """The key that names the layers of a network."""
    own = network != "student" and config.features is not None and config.features.peer_layers
    return "features.peer_layers" if own else "features.layers"
