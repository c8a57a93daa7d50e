"""What must hold between modes, losses, labels and schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator

from . import (
    Asl,
    Bce,
    Cls,
    ClsDistill,
    ClsDistillMultiopt,
    ClsTeacher,
    Config,
    CosineWarmup,
    CustomLoss,
    ExponentialWarmup,
    Focal,
    JsOriginal,
    Piecewise,
    Polynomial,
    Sampler,
    Schedule,
    WeightedLoss,
)


def problems(config: Config) -> Iterator[str]:
    """What cannot work. Every message names the key and the override that mends it."""
    for rule in (_mode, _loss, _labels, _features, _schedules):
        yield from rule(config)


def _mode(config: Config) -> Iterator[str]:
    mode, mimic, features = config.mode, config.mimic, config.features
    match mode:
        case Cls() if mimic is not None:
            yield f"mimic={mimic.kind}: mode=cls has one network and no peer. Use mode=cls_distill or drop it."
        case Cls() if features is not None:
            yield f"features={features.kind}: mode=cls has one network and no peer. Use mode=cls_distill or drop it."
        case ClsDistill() | ClsTeacher() if mimic is None and features is None:
            yield (
                f"mode={mode.kind} needs a loss that follows the peer. Add mimic=dml (or kl, kd, js_original), or "
                "features=attention_transfer."
            )
        case ClsDistillMultiopt() if mimic is not None and not mimic.detach_peer:
            yield (
                "mimic.detach_peer=false: in mode=cls_distill_multiopt each optimizer owns one network, and the loss "
                "of one must not move the other. Use mimic.detach_peer=true, or mode=cls_distill."
            )
        case ClsTeacher() if mimic is not None and not mimic.detach_peer:
            yield "mimic.detach_peer=false: the teacher of mode=cls_teacher is frozen. Use mimic.detach_peer=true."


def _loss(config: Config) -> Iterator[str]:
    wanted = config.loss.class_weights if isinstance(config.loss, WeightedLoss) else None
    match wanted:
        case None | "auto":
            return
        case list() | dict():
            weights = [*(wanted.values() if isinstance(wanted, dict) else wanted)]
            if all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights) and any(weights):
                return
    yield (
        f"loss.class_weights={wanted}: give loss.class_weights=auto, a number for each class, such as "
        "loss.class_weights=[1,2.5], or those of some by name, such as 'loss.class_weights={cat:2.5}'"
    )


def _labels(config: Config) -> Iterator[str]:
    loss, mimic = config.loss, config.mimic
    if not config.data.many:
        if isinstance(loss, (Bce, Asl)):
            yield (
                f"loss={loss.kind} decides each label by itself, and data.labels=one has one an image. Add "
                "data.labels=many, or use loss=cross_entropy."
            )
        return
    if not isinstance(loss, (Bce, Asl, Focal, CustomLoss)):
        yield (
            f"loss={loss.kind} lets one class win, and with data.labels=many an image has any number of them. Use "
            "loss=bce, or else loss=asl or loss=focal."
        )
    if isinstance(mimic, JsOriginal):
        yield (
            "mimic=js_original compares softmax outputs, and with data.labels=many each label is decided by itself. "
            "Use mimic=dml, mimic=kl or mimic=kd."
        )
    if config.augment.enabled and (config.augment.mixup or config.augment.cutmix):
        yield (
            "augment.mixup and augment.cutmix mix images of one label each, and with data.labels=many they have any "
            "number. Use augment.mixup=0 augment.cutmix=0"
        )
    if config.deploy.unknown_accuracy is not None:
        yield (
            f"deploy.unknown_accuracy={config.deploy.unknown_accuracy:g} is of images with one class each, and with "
            "data.labels=many those below all thresholds have no label. Use deploy.unknown_accuracy=null"
        )
    if config.data.sampler is not Sampler.shuffle:
        yield (
            f"data.sampler={config.data.sampler.name} draws classes, and with data.labels=many an image is of several. "
            "Use data.sampler=shuffle; loss.class_weights=auto makes rare labels count for more."
        )


def _features(config: Config) -> Iterator[str]:
    features = config.features
    if features is None:
        return
    if not features.layers:
        yield (
            f"features={features.kind} compares layers, and features.layers names none. Name some of the network's, "
            "such as features.layers=[conv4,conv9] of a MobileNetV3 or [layer1,layer2] of a resnet18."
        )
    if features.peer_layers and len(features.peer_layers) != len(features.layers):
        yield (
            f"features.peer_layers={features.peer_layers}: features.layers has {len(features.layers)}, and each needs "
            "one of the peer. Leave it out where the names are the same."
        )
    for key in ("layers", "peer_layers"):
        names = getattr(features, key)
        if len(set(names)) < len(names):
            yield f"features.{key}={names}: each layer can be named once."


def _schedules(config: Config) -> Iterator[str]:
    yield from _schedule(config, "schedule", config.schedule)
    if isinstance(config.mode, ClsDistillMultiopt) and config.mode.peer_schedule:
        yield from _schedule(config, "mode.peer_schedule", config.mode.peer_schedule)


def _schedule(config: Config, key: str, schedule: Schedule) -> Iterator[str]:
    match schedule:
        case Piecewise(boundaries=boundaries, factors=factors):
            if len(factors) != len(boundaries) + 1:
                yield (
                    f"{key}.factors={factors}: {len(boundaries)} boundaries make {len(boundaries) + 1} stretches, "
                    f"so give {len(boundaries) + 1} factors."
                )
            if boundaries != sorted(set(boundaries)):
                yield f"{key}.boundaries={boundaries}: must rise."
        case CosineWarmup() | ExponentialWarmup() | Polynomial():
            whole = config.train.max_steps is None and config.train.max_minutes is None
            wanted = schedule.warmup_epochs
            if whole and config.train.epochs and wanted is not None and wanted >= config.train.epochs:
                yield (
                    f"{key}.warmup_epochs={schedule.warmup_epochs}: the warm-up is not shorter than the run "
                    f"(train.epochs={config.train.epochs}). Lower it, such as {key}.warmup_epochs=0"
                )
            if wanted and config.train.max_minutes:
                yield (
                    f"{key}.warmup_epochs={wanted} cannot be combined with train.max_minutes, whose number of epochs "
                    "is not known in advance. Leave it out: the warm-up then takes a fifth of the run, at most 5 epochs"
                )
