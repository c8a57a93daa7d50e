"""What must hold between modes, losses, labels and schedules."""

from __future__ import annotations

import math
import re
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
    Dist,
    Dkd,
    ExponentialWarmup,
    FeatureLoss,
    Focal,
    JsOriginal,
    Kd,
    Kl,
    Mimic,
    Piecewise,
    Polynomial,
    Sampler,
    Schedule,
    WeightedLoss,
)


def problems(config: Config) -> Iterator[str]:
    """What cannot work. Every message names the key and the override that mends it."""
    for rule in (_mode, _terms, _loss, _labels, _features, _schedules):
        yield from rule(config)


def _mode(config: Config) -> Iterator[str]:
    mode = config.mode
    following: dict[str, Mimic | FeatureLoss] = {**config.mimics, **config.feature_losses}
    match mode:
        case Cls():
            for key, loss in following.items():
                yield f"{key}={loss.kind}: mode=cls has one network and no peer. Use mode=cls_distill or drop it."
        case ClsDistill() | ClsTeacher() if not following:
            yield (
                f"mode={mode.kind} needs a loss that follows the peer. Add mimic=dml (or kl, kd, js_original), or "
                "features=attention_transfer."
            )
        case ClsDistillMultiopt():
            for key in _attached(config):
                yield (
                    f"{key}.detach_peer=false: in mode=cls_distill_multiopt each optimizer owns one network, and the "
                    f"loss of one must not move the other. Use {key}.detach_peer=true, or mode=cls_distill."
                )
        case ClsTeacher():
            for key in _attached(config):
                yield f"{key}.detach_peer=false: the teacher of mode=cls_teacher is frozen. Use {key}.detach_peer=true."
            yield from _teachers(mode)
        case ClsDistill(peers=peers) if peers > 2 and isinstance(config.mimic, JsOriginal):
            for key in _attached(config):
                if key == "mimic":
                    yield f"mimic=js_original without detach_peer is one loss of two networks, and mode.peers={peers}."


def _attached(config: Config) -> list[str]:
    """Keys of the losses whose gradient reaches the peer."""
    return [key for key, mimic in config.mimics.items() if not mimic.detach_peer]


def _teachers(mode: ClsTeacher) -> Iterator[str]:
    weights, count = mode.teacher_weights, 1 + len(mode.more_teachers)
    if weights and (len(weights) != count or not any(weights)):
        yield (
            f"mode.teacher_weights={weights}: give {count} numbers, of mode.teacher_from and then of "
            "mode.more_teachers, not all of them 0."
        )


def _terms(config: Config) -> Iterator[str]:
    for group in ("mimic", "features"):
        for name in getattr(config.also, group):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or re.fullmatch(r"student\d*|pair", name):
                yield (
                    f"also.{group}.{name}: the term is logged by that name. Use small letters, digits and '_', and not "
                    "that of a network."
                )
    shares = [key for key, mimic in config.mimics.items() if isinstance(mimic, Kd)]
    if len(shares) > 1:
        yield (
            f"{shares[1]}=kd: {shares[0]} is kd as well, and each would take its share from the loss of labels. Use kl "
            "for one of them."
        )
    mixed = config.augment.enabled and (config.augment.mixup or config.augment.cutmix)
    for key, mimic in config.mimics.items():
        if isinstance(mimic, Dkd) and mixed and not config.data.many:
            yield (
                f"{key}=dkd tells the label from other classes, and mixed images have two. Use augment.mixup=0 "
                f"augment.cutmix=0, or another loss, such as kd."
            )


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
    loss = config.loss
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
    for key, mimic in config.mimics.items():
        if isinstance(mimic, (JsOriginal, Dkd, Dist)):
            yield (
                f"{key}={mimic.kind} compares softmax outputs, and with data.labels=many each label is decided by "
                "itself. Use mimic=dml, mimic=kl, mimic=kd or mimic=rkd."
            )
        if isinstance(mimic, (Kl, Kd)) and mimic.standardize:
            yield (
                f"{key}.standardize=true compares the classes of an image, and with data.labels=many each label is "
                f"decided by itself. Use {key}.standardize=false."
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
    for key, features in config.feature_losses.items():
        if not features.layers:
            yield (
                f"{key}={features.kind} compares layers, and {key}.layers names none. Name some of the network's, "
                f"such as {key}.layers=[conv4,conv9] of a MobileNetV3 or [layer1,layer2] of a resnet18."
            )
        if features.peer_layers and len(features.peer_layers) != len(features.layers):
            yield (
                f"{key}.peer_layers={features.peer_layers}: {key}.layers has {len(features.layers)}, and each needs "
                "one of the peer. Leave it out where the names are the same."
            )
        for part in ("layers", "peer_layers"):
            names = getattr(features, part)
            if len(set(names)) < len(names):
                yield f"{key}.{part}={names}: each layer can be named once."


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
