"""The effect of compression on a network of a run, measured on images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor, nn

from .. import config as cfg
from ..compression import effects, slim
from ..compression.effects import Effects
from ..compression.floats import Floats
from ..deploy import noise, quantization
from ..deploy.manifest import EXPORT
from ..deploy.predict import probabilities
from ..deploy.quantization import QuantizedLayer
from ..kernels.layers import stock
from . import finished
from .finished import Classifier
from .stage import Stage, sample

#: Bytes of images kept in memory for all the networks.
MOST_BYTES = 2**28
#: Images on which the noise of layers is measured if the export did not record it.
NOISE_IMAGES = 64


def measure(
    directory: Path, config: cfg.Config, name: str, pointer: str, stage: Stage, classifier: Classifier,
    plan: dict[str, Any], origin: tuple[str, nn.Layer] | None, images: int, tell: Callable[[int, int], None],
) -> Effects | None:  # fmt: skip
    """The effects on a network that was quantized or pruned; None for any other.

    `name`: the network's name; `pointer`: its weights, `final`, `best` or `last`; `plan`: what was pruned from it, if
    anything; `origin`: the network that it was pruned from, and its name; `images`: how many images to use, of the
    validation split or, without one, of the training split.
    """
    network = classifier.network
    if not slim.fake_quantized(network) and not plan:
        return None
    split, loader = sample(stage.loaders, min(images, MOST_BYTES // (4 * int(np.prod(config.data.input_shape)))))
    batches = [batch.images for batch in loader]
    labels = np.asarray(loader.split.labels)

    def decide(logits: np.ndarray) -> np.ndarray:
        if classifier.thresholds is None:
            return logits.argmax(axis=1)
        return (probabilities(logits, many=True) >= classifier.thresholds).astype(np.uint8)

    measured = Effects(len(labels), split)
    floats = _floats(directory, config, name, pointer, classifier, batches[0])
    if floats is None:
        measured.notes.append(
            "not compared with floats: post-training quantization replaced the weights or biases of layers, and the "
            "checkpoint `best`, which has the float ones, cannot be read"
        )
    if slim.fake_quantized(network):
        measured.rounded = effects.of_integers(network, floats, batches, decide, labels, tell)
        by_layer = _noise(directory, config, name, pointer, classifier, batches)
        for layer in measured.rounded.layers:
            if described := by_layer.get(layer.name):
                layer.own_noise, layer.noise = described.output_snr_db, described.accumulated_snr_db
    if plan:
        with stock():
            measured.pruned = effects.of_pruning(plan, network, floats, origin, batches, decide, labels)
    return measured


def _floats(
    directory: Path, config: cfg.Config, name: str, pointer: str, classifier: Classifier, images: Tensor
) -> Floats | None:
    """What puts the layers of a network in floats; None if post-training quantization replaced what is now missing."""
    network, settings = classifier.network, config.compression.quantize
    replaces = isinstance(settings, cfg.CalibratedQuantization) and settings.compares
    if not slim.fake_quantized(network) or not replaces:
        return Floats(network)
    reference = finished.reference(directory, config, len(classifier.classes), name, pointer)
    return None if reference is None else Floats(network, reference, images)


def _noise(
    directory: Path, config: cfg.Config, name: str, pointer: str, classifier: Classifier, batches: list[Tensor]
) -> dict[str, QuantizedLayer]:  # fmt: skip
    """Layer → its noise as the network's export recorded it, else measured; empty without a float network."""
    layers = slim.fake_quantized(classifier.network)
    written = quantization.read(directory / EXPORT)
    if written is None or written.network != name or pointer != "final":
        reference = finished.reference(directory, config, len(classifier.classes), name, pointer)
        if reference is None:
            return {}
        images = np.concatenate([batch.numpy() for batch in batches[:1]])[:NOISE_IMAGES]
        written = noise.measure(name, classifier.network, reference, images)
    described = {layer.name: layer for layer in written.layers}
    return described if described.keys() == layers.keys() else {}
