"""The effect of compression on a network of a run, measured on images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from paddle import Tensor

from .. import config as cfg
from ..checkpoints import weights
from ..compression import effects, slim
from ..compression.effects import Effects, Origin
from ..compression.floats import Floats
from ..deploy import noise, quantization
from ..deploy.manifest import EXPORT
from ..deploy.quantization import QuantizedLayer
from ..errors import UserError
from ..kernels.layers import stock
from . import finished, unpruned
from .finished import Classifier
from .stage import Stage, sample

#: Bytes of images kept in memory for all the networks.
MOST_BYTES = 2**28
#: Images on which the noise of layers is measured if the export did not record it.
NOISE_IMAGES = 64


def measure(
    directory: Path, config: cfg.Config, name: str, pointer: str, stage: Stage, classifier: Classifier,
    images: int, tell: Callable[[int, int], None],
) -> Effects | None:  # fmt: skip
    """The effects on a network that was quantized or pruned; None for any other.

    `name`: the network's name; `pointer`: its weights, `final`, `best` or `last`; `images`: how many images to use, of
    the validation split or, without one, of the training split. A pruned network is compared with what it was pruned
    from, if that still exists.
    """
    network, plan = classifier.network, weights.read(directory, pointer).plan.get(name) or {}
    if not slim.fake_quantized(network) and not plan:
        return None
    split, loader = sample(stage.loaders, min(images, MOST_BYTES // (4 * int(np.prod(config.data.input_shape)))))
    batches = [batch.images for batch in loader]
    labels = np.asarray(loader.split.labels)
    decide, measured = finished.decisions(classifier.thresholds), Effects(len(labels), split)
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
        origin = _origin(config, name, classifier.classes, measured.notes)
        with stock():
            measured.pruned = effects.of_pruning(plan, network, floats, origin, batches, decide, labels)
    return measured


def _origin(config: cfg.Config, name: str, classes: list[str], notes: list[str]) -> Origin | None:
    """The network before pruning; None without one, and with a note if it cannot be compared with."""
    try:
        return unpruned.find(config, name, classes, notes)
    except UserError as error:
        notes.append(f"not compared with the network before pruning: {error}")
        return None


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
