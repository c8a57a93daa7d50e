"""Calibration: which range of values the input of each layer has."""

from __future__ import annotations

from collections.abc import Iterable

import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..errors import ConfigError
from ..models.input_check import preserved
from . import patterns, slim

#: A layer whose input is always zero has no range; integers need one all the same.
SMALLEST = 1e-6


def quantizable(network: nn.Layer, settings: cfg.Quantization) -> list[str]:
    """Names of the layers that the settings choose.

    Errors: ConfigError for a pattern that matches nothing, and where no layer is left.
    """
    kinds = {cfg.LayerType.Conv2D: nn.Conv2D, cfg.LayerType.Linear: nn.Linear}
    chosen = tuple(kinds[kind] for kind in settings.layers)
    names = [name for name, layer in network.named_sublayers() if isinstance(layer, chosen)]
    patterns.check("compression.quantize.skip", settings.skip, names)
    kept = [name for name in names if not patterns.matches(name, settings.skip)]
    if not kept:
        raise ConfigError(
            f"compression.quantize finds no layer of {type(network).__name__} to quantize: it has {len(names)} of "
            f"{', '.join(kind.value for kind in settings.layers)}, and {len(names)} are skipped. Choose other "
            "compression.quantize.layers or .skip, or compression=none."
        )
    return kept


def measure(
    network: nn.Layer,
    names: list[str],
    images: Iterable[Tensor],
    bits: int,
    algorithm: cfg.Algorithm = cfg.Algorithm.abs_max,
    percentile: float = 1.0,
) -> dict[str, float]:
    """Layer → the magnitude that bounds its input, over all images, in eval mode; nothing of the network changes.

    images: batches, each float32 [n, 3, S, S].
    """
    layers = dict(network.named_sublayers())
    calibrators = {name: slim.Calibrator(algorithm, bits, percentile) for name in names}
    hooks = [
        layers[name].register_forward_pre_hook(
            lambda layer, inputs, watching=calibrators[name]: watching.observe(layer, inputs[0])
        )
        for name in names
    ]
    try:
        with preserved(network), paddle.no_grad():
            network.eval()
            for batch in images:
                network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: max(SMALLEST, calibrator.magnitude()) for name, calibrator in calibrators.items()}
