"""Running statistics of normalisation layers, re-estimated."""

from __future__ import annotations

from collections.abc import Iterable

import paddle
from paddle import nn


@paddle.no_grad()
def restore(network: nn.Layer, images: Iterable[paddle.Tensor]) -> None:
    """Re-estimate the running statistics of normalisation layers: those from before pruning no longer fit.

    images: batches, each float32 [n, 3, S, S]. The statistics become the mean over all images; nothing else changes,
    and nothing random is drawn. Li et al., EagleEye, ECCV 2020, show how much accuracy that restores after pruning.
    """
    norms = [layer for layer in network.sublayers(include_self=True) if isinstance(layer, nn.layer.norm._BatchNormBase)]
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    momenta = [layer._momentum for layer in norms]
    network.eval()
    for layer in norms:
        layer.train()
    seen = 0
    try:
        for batch in images:
            for layer in norms:
                layer._momentum = seen / (seen + len(batch))
            network(batch)
            seen += len(batch)
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer._momentum = momentum
        for layer, training in modes:
            layer.training = training
