"""Running statistics of normalisation layers, re-estimated."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import paddle
from paddle import nn


@paddle.no_grad()
def restore(network: nn.Layer, images: Iterable[paddle.Tensor], untouched: Collection[str] = ()) -> None:
    """Re-estimate the running statistics of normalisation layers: those from before pruning no longer fit.

    images: batches, each float32 [n, 3, S, S]. The statistics become the mean over all images; nothing else changes,
    and nothing random is drawn. Layers whose names are `untouched` keep theirs. Li et al., EagleEye, ECCV 2020, show
    how much accuracy that restores after pruning.
    """
    norms = [layer for name, layer in normalisations(network).items() if name not in untouched]
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


def normalisations(network: nn.Layer) -> dict[str, nn.Layer]:
    """The layers with running statistics by their names."""
    layers = network.named_sublayers(include_self=True)
    return {name: layer for name, layer in layers if isinstance(layer, nn.layer.norm._BatchNormBase)}
