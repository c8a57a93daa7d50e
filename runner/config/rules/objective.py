"""What must hold between losses, labels and schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .. import (
    Asl,
    Bce,
    ClsDistillMultiopt,
    Config,
    CosineWarmup,
    CustomLoss,
    ExponentialWarmup,
    Focal,
    Piecewise,
    Polynomial,
    Sampler,
    Schedule,
    WeightedLoss,
)


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    for rule in (_loss, _labels, _schedules):
        yield from rule(config)


def _loss(config: Config) -> Iterator[str]:
    wanted = config.loss.class_weights if isinstance(config.loss, WeightedLoss) else None
    match wanted:
        case None | "auto":
            return
        case list() | dict():
            weights = [*(wanted.values() if isinstance(wanted, dict) else wanted)]
            # Classes that a mapping does not name have 1.
            some = any(weights) or isinstance(wanted, dict)
            if some and all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights):
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
                f"loss={loss.kind} decides each label by itself, and here an image is of one class. Add "
                "data.labels=many, or use loss=cross_entropy."
            )
        return
    if not isinstance(loss, (Bce, Asl, Focal, CustomLoss)):
        yield (
            f"loss={loss.kind} lets one class win, and with data.labels=many an image has any number of them. Use "
            "loss=bce, or else loss=asl or loss=focal."
        )
    if config.augment.mixes:
        yield (
            "augment.mixup and augment.cutmix mix images of one label each, and with data.labels=many they have any "
            "number. Use augment.mixup=0 augment.cutmix=0"
        )
    if config.deploy.unknown_accuracy is not None:
        yield (
            f"deploy.unknown_accuracy={config.deploy.unknown_accuracy:g} is of images with one class each; "
            "with data.labels=many an image below all thresholds has no label. Use deploy.unknown_accuracy=null"
        )
    if config.data.sampler is not Sampler.shuffle:
        yield (
            f"data.sampler={config.data.sampler.name} draws classes, and with data.labels=many an image is of several. "
            "Use data.sampler=shuffle; loss.class_weights=auto makes rare labels count for more."
        )


def _schedules(config: Config) -> Iterator[str]:
    yield from _schedule(config, "schedule", config.schedule)
    if isinstance(config.mode, ClsDistillMultiopt) and config.mode.peer_schedule:
        yield from _schedule(config, "mode.peer_schedule", config.mode.peer_schedule)


def _schedule(config: Config, key: str, schedule: Schedule) -> Iterator[str]:
    match schedule:
        case Piecewise(boundaries=boundaries, factors=factors):
            if len(factors) != len(boundaries) + 1:
                yield (
                    f"{key}.factors={factors}: {len(boundaries)} boundaries make {len(boundaries) + 1} intervals, "
                    f"so give {len(boundaries) + 1} factors."
                )
            if boundaries != sorted(set(boundaries)):
                yield f"{key}.boundaries={boundaries}: must increase."
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
                    f"is not known in advance. Use {key}.warmup_epochs=null: a fifth of the run, at most 5 epochs"
                )
