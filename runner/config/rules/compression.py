"""What must hold between the keys of `compression` and the rest of a config."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import nearest
from .. import (
    Allocation,
    AttentionTransfer,
    Bf16,
    Budget,
    Config,
    Format,
    LearntQuantization,
    Level,
    Penalty,
    Pruning,
    Quantization,
    RkdFeatures,
    TrainedQuantization,
    choosing,
)
from ..criteria import BN_SCALE, CUSTOM, NAMES


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    if config.compression.quantize:
        yield from _quantization(config, config.compression.quantize)
    if config.compression.prune:
        yield from _pruning(config, config.compression.prune)


def _quantization(config: Config, quantize: Quantization) -> Iterator[str]:
    for pattern, bits in quantize.layer_bits.items():
        if not 2 <= bits <= 8:
            yield f"compression.quantize.layer_bits.{pattern}={bits}: must be at least 2 and at most 8."
    average = quantize.average_weight_bits
    if average is not None and average > quantize.weight_bits:
        yield (
            f"compression.quantize.average_weight_bits={average:g}: no layer has more than "
            f"compression.quantize.weight_bits={quantize.weight_bits}. Raise that, or lower the average."
        )
    if not quantize.layers:
        yield "compression.quantize.layers=[]: nothing would be quantized. Name some: [Conv2D,Linear]"
    if isinstance(config.amp, Bf16) and config.amp.level is Level.O2 and not config.amp.fallback:
        yield (
            "amp.level=O2 keeps weights in half precision, too coarse for fake quantization. Use amp.level=O1, or "
            "compression=none."
        )


def _pruning(config: Config, prune: Pruning) -> Iterator[str]:
    for pattern, ratio in prune.ratios.items():
        if not 0 <= ratio < 1:
            yield f"compression.prune.ratios.{pattern}={ratio}: must be at least 0 and below 1."
    yield from _criterion(prune)
    yield from _amount(prune)
    yield from _time(config, prune)
    yield from _penalty(prune)


def _criterion(prune: Pruning) -> Iterator[str]:
    if prune.criterion not in NAMES:
        yield (
            f"compression.prune.criterion={prune.criterion}: unknown criterion."
            f"{nearest(prune.criterion, NAMES)} Valid: {', '.join(NAMES)}"
        )
    if prune.criterion == CUSTOM and prune.target is None:
        yield (
            "compression.prune.criterion=custom needs the function that scores filters: "
            "compression.prune.target=package.module:callable"
        )
    for key in ("target", "kwargs"):
        if prune.criterion != CUSTOM and getattr(prune, key):
            yield f"compression.prune.{key} is for custom scores: add compression.prune.criterion=custom, or remove it."


def _amount(prune: Pruning) -> Iterator[str]:
    for key, value, usual in (
        ("budget", prune.budget, Budget.filters),
        ("allocation", prune.allocation, Allocation.uniform),
    ):
        if prune.ratios and value is not usual:
            yield (
                f"compression.prune.ratios: with {key}={value.name} the ratio of a layer depends on the others. Use "
                "one of them, and compression.prune.skip for layers that are not pruned."
            )


def amount(config: Config) -> Iterator[str]:
    """Yields why a run that prunes can never remove a filter."""
    prune = config.compression.prune
    if prune and not any((prune.ratio, *prune.ratios.values())):
        yield (
            "compression.prune.ratio=0.0: nothing would be removed. Give it a value, compression.prune.ratio=0.5, or "
            "keep the network whole: compression=none"
        )


def latency(config: Config) -> Iterator[str]:
    """Yields why a run that prunes to a latency cannot measure any."""
    prune = config.compression.prune
    if prune is None or prune.budget is not Budget.latency:
        return
    if not config.deploy.bench_s:
        yield (
            "compression.prune.budget=latency needs a measurement, and deploy.bench_s=0 turns it off. Use "
            "deploy.bench_s=0.3, or compression.prune.budget=macs."
        )
    if Format.onnx not in config.deploy.formats:
        yield (
            "compression.prune.budget=latency is measured on ONNX files in onnxruntime, and this run "
            "exports none. Use deploy.formats=[onnx], or compression.prune.budget=macs."
        )


def _time(config: Config, prune: Pruning) -> Iterator[str]:
    train, begin = config.train, prune.begin_epoch
    if begin is None:
        if prune.parts > 1:
            yield (
                f"compression.prune.parts={prune.parts}: several cuts are made while the network is trained. "
                "Set the first epoch: compression.prune.begin_epoch=1, or remove it."
            )
        return
    last = begin + (prune.parts - 1) * prune.every_epochs
    if train.max_minutes is not None:
        yield (
            f"compression.prune.begin_epoch={begin}: how many epochs a run has is not known with train.max_minutes. "
            "Use train.epochs, or prune before training: compression.prune.begin_epoch=null"
        )
    elif train.max_steps is None and last >= train.epochs and not config.debug.fast_dev_run:
        yield (
            f"compression.prune.begin_epoch={begin}, parts={prune.parts} and every_epochs={prune.every_epochs} make "
            f"the last cut before epoch {last}, and train.epochs={train.epochs}. Train longer, such as "
            f"train.epochs={last + 2}, or cut earlier."
        )
    if isinstance(config.compression.quantize, (TrainedQuantization, LearntQuantization)):
        yield (
            f"compression.prune.begin_epoch={begin}: fake-quantized networks cannot be pruned. Prune before "
            "training, compression.prune.begin_epoch=null, or in a separate run (compression=fpgm), and "
            "start the next from it: compression=qat checkpoint.init_from=RUN"
        )
    if isinstance(config.amp, Bf16) and config.amp.level is Level.O2 and not config.amp.fallback:
        yield (
            f"compression.prune.begin_epoch={begin}: with amp.level=O2 weights are in half precision. "
            "Use amp.level=O1, or prune before training: compression.prune.begin_epoch=null"
        )
    for key, loss in config.feature_losses.items():
        if not isinstance(loss, (AttentionTransfer, RkdFeatures)):
            yield (
                f"{key}={loss.kind} may depend on the number of channels, which compression.prune.begin_epoch={begin} "
                f"changes. Use {choosing(key, 'attention_transfer')}, or prune before training: "
                "compression.prune.begin_epoch=null"
            )


def _penalty(prune: Pruning) -> Iterator[str]:
    if not prune.sparsity:
        if prune.penalty is Penalty.decoupled:
            yield (
                "compression.prune.penalty=decoupled shrinks nothing with sparsity=0. Add "
                "compression.prune.sparsity=0.0001, or remove it."
            )
        return
    if prune.criterion != BN_SCALE:
        yield (
            f"compression.prune.sparsity={prune.sparsity} shrinks the scales of BatchNorm, which criterion="
            f"{prune.criterion} does not use. Add compression.prune.criterion=bn_scale, or remove it."
        )
    if prune.begin_epoch is None:
        yield (
            f"compression.prune.sparsity={prune.sparsity} acts in the epochs before the last cut, and here "
            "everything is cut before training. Set an epoch: compression.prune.begin_epoch=5, or remove it."
        )
