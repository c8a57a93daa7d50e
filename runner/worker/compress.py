"""Pruning and fake quantization of the networks that are about to be trained."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from paddle import Tensor

from .. import compression, data
from .. import config as cfg
from ..deploy import network_latency
from ..runs.protocol import Heartbeat
from ..terminal import counted
from ..training import modes
from . import finetuning
from .stage import Stage, accuracy, sample

#: Batches on which the statistics of normalisation layers are re-estimated after pruning.
STATISTICS_BATCHES = 32


def compress(config: cfg.Config, stage: Stage) -> dict[str, Any]:
    """Prune the trained networks, then fake-quantize them, as the config asks; returns what was pruned from each."""
    plan: dict[str, Any] = {}
    settings = config.compression
    if settings.quantize:
        compression.slim.check_versions()
    compression.check_patterns([stage.networks[name] for name in stage.networks.trained], settings)
    if settings.prune:
        stage.notes += _fewer_images(settings.prune, stage)
    with Heartbeat().beating():
        for name in stage.networks.trained:
            if settings.prune:
                plan[name] = _prune(config, stage, name, settings.prune)
            if settings.quantize:
                _quantize(config, stage, name, settings.quantize)
    return plan


def _fewer_images(settings: cfg.Pruning, stage: Stage) -> list[str]:
    """A note if there are fewer images to measure a layer's sensitivity to pruning on than it asks for."""
    split, held_out = sample(stage.loaders, settings.sensitivity_images)
    count = len(held_out.split)
    if settings.allocation is not cfg.Allocation.sensitivity or count == settings.sensitivity_images:
        return []
    return [
        f"the sensitivity to pruning is measured on all {counted(count, 'image')} of the {split} split: "
        f"compression.prune.sensitivity_images={settings.sensitivity_images} asks for more"
    ]


def _prune(config: cfg.Config, stage: Stage, name: str, settings: cfg.Pruning) -> dict[str, Any]:
    """Prune a network before training; if it is pruned later, refuse a cut that can never be made."""
    network, shape, facts = stage.networks[name], config.data.input_shape, evidence(config, stage, name)
    if settings.begin_epoch is not None:
        return compression.pruning.begin(network, settings, shape, facts).as_json()
    frozen, norms = finetuning.frozen_part(config, stage, name), compression.statistics.normalisations(network)
    before = {layer: norm._mean.shape for layer, norm in norms.items()}
    pruned = compression.pruning.prune(network, settings, shape, facts)
    stage.notes.append(f"pruned {name}: {pruned}")
    untouched = {
        layer
        for layer, norm in norms.items()
        if frozen and frozen.has(f"{layer}._mean") and norm._mean.shape == before[layer]
    }
    compression.statistics.restore(network, calibration_images(stage.loaders, STATISTICS_BATCHES), untouched)
    return pruned.as_json()


def _quantize(config: cfg.Config, stage: Stage, name: str, settings: cfg.Quantization) -> None:
    """Fake-quantize a network before training; refuse now what cannot be quantized after training."""
    network = stage.networks[name]
    trained = config.checkpoint.init_from is not None or cfg.model_of(config, name).weights is not None
    images = TrainingImages(stage.loaders)

    def report(text: str) -> None:
        stage.notes.append(f"{name}: {text}")

    match settings:
        case cfg.TrainedQuantization():
            compression.qat.quantize_and_calibrate(network, settings, images, trained, report)
        case cfg.LearntQuantization():
            compression.lsq.quantize_and_calibrate(network, settings, images, trained, report)
        case _:
            names = compression.ranges.quantizable(network, settings)
            compression.bits.check(network, settings, names)
            # A layer that is never called has no range after training either.
            compression.ranges.measure(network, names, compression.ranges.first(images, 1), settings.activation_bits)
            return
    if settings.average_weight_bits is not None and not trained:
        report("the sensitivity to fewer bits was measured on random weights and is unreliable: "
               "start from a trained run, such as "
               "checkpoint.init_from=RUN")  # fmt: skip


def evidence(config: cfg.Config, stage: Stage, name: str) -> compression.pruning.Evidence:
    """What pruning a network may use: validation images, training batches and its latency on this machine."""
    settings, network, shape = config.compression.prune, stage.networks[name], config.data.input_shape
    assert settings is not None
    _, held_out = sample(stage.loaders, settings.sensitivity_images)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in itertools.islice(stage.loaders.unchanged(), settings.batches):
            yield batch.images, batch.labels

    def engine() -> network_latency.OnnxRuntime:
        return network_latency.engine(network, shape, config.deploy.threads)

    return compression.pruning.Evidence(
        accuracy=functools.partial(accuracy, stage, name, held_out),
        batches=batches,
        loss=modes.hard_loss(config, stage.classes),
        engine=engine,
        medians=lambda engines: network_latency.medians(engines, shape, config.deploy.bench_s),
    )


@dataclass(frozen=True)
class TrainingImages:
    """Training images without augmentation, in the order of the first epoch: float32 [n, C, H, W] a batch.

    Every iteration begins anew.
    """

    loaders: data.Loaders

    def __iter__(self) -> Iterator[Tensor]:
        return (batch.images for batch in self.loaders.unchanged())


def calibration_images(loaders: data.Loaders, batches: int) -> Iterator[Tensor]:
    """The first batches of them."""
    return itertools.islice(TrainingImages(loaders), batches)
