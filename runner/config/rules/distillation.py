"""What must hold between modes and distillation losses."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .. import (
    Cls,
    ClsDistill,
    ClsDistillMultiopt,
    ClsTeacher,
    Config,
    Dist,
    Dkd,
    JsOriginal,
    Kd,
    Kl,
    Labels,
    Ramp,
    Train,
    choosing,
    key_of_teacher,
)


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    for rule in (_mode, _followed, _precomputed, _terms, _ramps, _many_labels, _features):
        yield from rule(config)


def _mode(config: Config) -> Iterator[str]:
    mode = config.mode
    following = config.peer_losses
    match mode:
        case Cls(average=False):
            for key, loss in following.items():
                yield (
                    f"{key}={loss.kind}: mode=cls has one network and no peer. Use mode=cls_distill, or "
                    "mode.average=true to follow the network's own average, or remove it."
                )
        case Cls() if not following:
            yield "mode.average=true needs a loss that follows the average. Add one, such as mimic=kl."
        case ClsDistill() | ClsTeacher() if not following:
            yield (
                f"mode={mode.kind} needs a loss that follows the peer. Add mimic=dml (or kl, kd, js_original), or "
                "features=attention_transfer."
            )
        case Cls():
            for key in _attached(config):
                yield f"{key}.detach_peer=false: the average has no gradient. Use {key}.detach_peer=true."
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
    for name, teacher in mode.teachers.items():
        key = key_of_teacher(name)
        own = teacher.teacher.weights if teacher.teacher else None
        if teacher.teacher_from is None and own is None:
            first = " Further teachers need a first one." if name == "teacher" and mode.more_teachers else ""
            yield (
                f"{key}.teacher_from has no value.{first} Give it one: {key}.teacher_from=RUN (or "
                f"{key}.teacher.weights=FILE)"
            )
        if teacher.teacher_from is not None and own is not None:
            yield (
                f"{key}.teacher.weights and {key}.teacher_from both set the teacher's initial weights. Use one of them."
            )
    for name in mode.more_teachers:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or re.fullmatch(r"student\d*|teacher|average", name):
            yield (
                f"mode.more_teachers.{name}: this becomes the name of its network. Use small letters, digits and '_', "
                "and not the name of another network."
            )
    if not any(teacher.teacher_weight for teacher in mode.teachers.values()):
        yield "mode.teacher_weight=0: no teacher has any weight. Give one of them a weight: mode.teacher_weight=1"


def _followed(config: Config) -> Iterator[str]:
    """Whether the terms name teachers that there are, and every teacher is followed."""
    losses = config.peer_losses
    if not isinstance(config.mode, ClsTeacher):
        for key, loss in losses.items():
            if loss.teachers:
                yield f"{key}.teachers={loss.teachers}: mode={config.mode.kind} has no teachers. Remove it."
        return
    teachers = config.mode.teachers
    for key, loss in losses.items():
        if unknown := [name for name in loss.teachers if name not in teachers]:
            yield f"{key}.teachers: there is no teacher '{unknown[0]}'. Name some of {', '.join(teachers)}."
        elif len(set(loss.teachers)) < len(loss.teachers):
            yield f"{key}.teachers={loss.teachers}: each teacher can be named once."
        elif loss.teachers and not any(teachers[name].teacher_weight for name in loss.teachers):
            yield (
                f"{key}.teachers={loss.teachers}: none of them has any weight. Give one of them a weight: "
                f"{key_of_teacher(loss.teachers[0])}.teacher_weight=1"
            )
    for name in teachers:
        if losses and not any(name in (loss.teachers or teachers) for loss in losses.values()):
            key, first = next(iter(losses.items()))
            followed = ",".join([*first.teachers, name])
            yield f"No term follows the teacher '{name}'. Have one follow it, such as {key}.teachers=[{followed}]"


def _precomputed(config: Config) -> Iterator[str]:
    """What logits that are computed before training cannot replace."""
    if not isinstance(config.mode, ClsTeacher) or not config.mode.precompute_logits:
        return
    for key, features in config.feature_losses.items():
        yield (
            f"{key}={features.kind} compares layers, and mode.precompute_logits=true keeps nothing but the teachers' "
            f"logits. Use mode.precompute_logits=false, or leave the term out."
        )
    if config.augment.mixes:
        yield (
            "mode.precompute_logits=true: Mixup and CutMix train on mixtures of images, and the logits are of single "
            "ones. Use augment.mixup=0 augment.cutmix=0, or mode.precompute_logits=false."
        )


def _terms(config: Config) -> Iterator[str]:
    for group in ("mimic", "features"):
        for name in getattr(config.also, group):
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or re.fullmatch(r"student\d*|pair", name):
                yield (
                    f"also.{group}.{name}: the term is logged under that name. Use small letters, digits and '_', and "
                    "not that of a network."
                )
    shares = [key for key, mimic in config.mimics.items() if isinstance(mimic, Kd)]
    if len(shares) > 1:
        yield (
            f"{shares[1]}=kd: {shares[0]} is kd as well, and each would take its share of the label loss. Use kl "
            "for one of them."
        )
    has_shares = config.augment.mixes or config.data.labels is Labels.soft
    for key, mimic in config.mimics.items():
        if isinstance(mimic, Dkd) and has_shares and not config.data.many:
            yield (
                f"{key}=dkd tells the label from other classes, and mixed images and soft labels have several. Use "
                f"augment.mixup=0 augment.cutmix=0 data.labels=one, or another loss, such as kd."
            )


def _ramps(config: Config) -> Iterator[str]:
    for key, loss in config.peer_losses.items():
        if loss.ramp.epochs is not None and loss.ramp.steps is not None:
            yield f"{key}.ramp has both epochs and steps. Give one of them: {key}.ramp.epochs=null"
        if not loss.ramp.changes and loss.ramp != Ramp():
            yield f"{key}.ramp has no length. Set the epochs over which the factor changes: {key}.ramp.epochs=5"
        if not config.debug.fast_dev_run:
            yield from _endless(f"{key}.ramp", loss.ramp, config.train)


def _endless(key: str, ramp: Ramp, train: Train) -> Iterator[str]:
    """What is known of a ramp that ends after the run, before the number of images is."""
    if ramp.epochs and not (train.max_steps or train.max_minutes) and 0 < train.epochs < ramp.begin + ramp.epochs:
        yield (
            f"{key} changes until epoch {ramp.begin + ramp.epochs:g}, and the run has train.epochs={train.epochs}. "
            f"Lower {key}.epochs, or {key}.begin."
        )
    if ramp.steps and train.max_steps and train.max_steps < ramp.begin + ramp.steps:
        yield (
            f"{key} changes until step {ramp.begin + ramp.steps:g}, and the run has train.max_steps={train.max_steps}. "
            f"Lower {key}.steps, or {key}.begin."
        )


def _many_labels(config: Config) -> Iterator[str]:
    if not config.data.many:
        return
    for key, mimic in config.mimics.items():
        if isinstance(mimic, (JsOriginal, Dkd, Dist)):
            yield (
                f"{key}={mimic.kind} compares softmax outputs, and with data.labels=many each label is decided by "
                f"itself. Use {choosing(key, 'dml')} (or kl, kd, rkd)."
            )
        if isinstance(mimic, (Kl, Kd)) and mimic.standardize:
            yield (
                f"{key}.standardize=true compares the classes of an image, and with data.labels=many each label is "
                f"decided by itself. Use {key}.standardize=false."
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
                "one of the peer. Remove it if the names are the same."
            )
        for part in ("layers", "peer_layers"):
            names = getattr(features, part)
            if len(set(names)) < len(names):
                yield f"{key}.{part}={names}: each layer can be named once."
