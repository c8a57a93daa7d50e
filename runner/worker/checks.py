"""Refusals that need the images: how long an epoch is, and which metrics its classes define."""

from __future__ import annotations

import math

import numpy as np

from .. import config as cfg
from .. import terminal
from ..config.monitor import is_known, refusal
from ..data import Loaders
from ..data.classes import listed
from ..data.labels import class_counts, has_class
from ..deploy.predict import UNKNOWN
from ..errors import ConfigError
from ..metrics.names import class_of, monitored_metric
from ..training import schedules
from ..training.evaluation import undefined
from ..training.state import Training

#: What is said of a key that needs validations where there are none.
NEEDS_VALIDATION = "{} needs a validation split: hold one out, such as data.val_fraction=0.1, or remove it."


def check_length(config: cfg.Config, steps: int, steps_per_epoch: int) -> list[str]:
    """Notes on schedules that change nothing within `steps`.

    Errors: ConfigError for a warm-up that is not shorter than the run, for a user-defined schedule that fails at its
    end, and for mixing that would not begin.
    """
    augment, epochs = config.augment, math.ceil(steps / steps_per_epoch)
    if not steps:
        return []
    if augment.mixes and augment.mix_off_epochs >= epochs:
        raise ConfigError(
            f"augment.mix_off_epochs={augment.mix_off_epochs}: no image would ever be mixed in the "
            f"{terminal.counted(epochs, 'epoch')} of train.max_steps={config.train.max_steps}. Lower it, or use "
            "augment.mixup=0 augment.cutmix=0"
        )
    peer = config.mode.peer_schedule if isinstance(config.mode, cfg.ClsDistillMultiopt) else None
    keys = {"schedule": config.schedule} | ({"mode.peer_schedule": peer} if peer else {})
    notes = (_schedule(key, schedule, config.train, steps, steps_per_epoch) for key, schedule in keys.items())
    return [note for note in notes if note]


def _schedule(key: str, schedule: cfg.Schedule, train: cfg.Train, steps: int, steps_per_epoch: int) -> str:
    """A note, or "" for a schedule that changes the rate. Errors: ConfigError as in `check_length`."""
    match schedule:
        case cfg.CustomSchedule():
            schedules.factor(schedule, steps - 1, steps, steps_per_epoch)
        case cfg.CosineWarmup() | cfg.ExponentialWarmup() | cfg.Polynomial():
            wanted = schedule.warmup_epochs
            if wanted is not None and steps <= round(wanted * steps_per_epoch):
                raise ConfigError(
                    f"{key}.warmup_epochs={wanted}: the warm-up is not shorter than the run of "
                    f"{terminal.counted(steps, 'step')} ({steps_per_epoch} an epoch). Lower it, such as "
                    f"{key}.warmup_epochs=0"
                )
        case cfg.Piecewise(boundaries=boundaries) if all(steps <= one * steps_per_epoch for one in boundaries):
            return f"{key}.boundaries={boundaries}: the run ends before them, so its learning rate is constant"
        case cfg.Plateau(patience=patience):
            validations = (steps - 1) // (train.eval_every_steps or train.eval_every * steps_per_epoch) + 1
            # The first one is an improvement, and after the last one nothing is trained.
            if validations < patience + 2:
                return (
                    f"{key}.patience={patience}: the run has {terminal.counted(validations, 'validation')}, so its "
                    "learning rate is constant"
                )
    return ""


def unknown_accuracy(config: cfg.Config, loaders: Loaders) -> None:
    """Errors: ConfigError where no answer can be `unknown`: a class has that name, or nothing is validated."""
    if config.deploy.unknown_accuracy is None:
        return
    if UNKNOWN in loaders.classes:
        raise ConfigError(
            f"deploy.unknown_accuracy: a class is already called '{UNKNOWN}', the answer for less "
            "confident predictions. Rename the class, or use deploy.unknown_accuracy=null"
        )
    if loaders.val is None:
        raise ConfigError(NEEDS_VALIDATION.format("deploy.unknown_accuracy"))


def metrics(config: cfg.Config, training: Training) -> list[str]:
    """Notes on a monitored metric that the test images do not define.

    Errors: ConfigError for one that does not exist, or that the validation images do not define, and for a
    user-defined one that fails.
    """
    train, networks = config.train, training.networks.trained
    loaders = training.loaders
    unknown_accuracy(config, loaders)
    labels, count = (loaders.val.split if loaders.val else loaders.source.train).labels, len(loaders.classes)
    unknown = training.ranks.broadcast_from_first(lambda: undefined(training.metrics, labels, count))
    if training.loaders.val is None:
        if any(isinstance(part.schedule.schedule, cfg.Plateau) for part in training.optimizations):
            raise ConfigError(
                "schedule=plateau follows validations, and there is no validation split: hold one out, such as "
                "data.val_fraction=0.1, or choose another schedule."
            )
        needed = {f"train.{key}": getattr(train, key) for key in ("patience", "eval_every_steps")}
        for key, value in (needed | {"sweep.pruner": config.sweep.pruner is not cfg.Pruner.none}).items():
            if value:
                raise ConfigError(NEEDS_VALIDATION.format(key))
    elif not is_known(train.monitor, networks, training.metrics, training.k):
        raise ConfigError(refusal(train.monitor, networks, training.metrics, training.k))
    name = monitored_metric(train.monitor)
    label = class_of(name)
    if loaders.val and name in unknown and name not in train.metrics:
        if label:
            raise ConfigError(
                f"train.monitor={train.monitor}: no validation image is of class '{label}'. Hold some out "
                "(data.val_fraction, data.split_seed), or monitor another metric, such as val/macro_f1."
            )
        present = [loaders.classes[place] for place in np.flatnonzero(class_counts(labels, count))]
        raise ConfigError(
            f"train.monitor={train.monitor}: {name} is not defined on the validation split, all of whose images are of "
            f"{listed(present)}. Hold out images of other classes as well, or monitor another metric, such as val/loss."
        )
    test = loaders.source.test
    if label and test and not has_class(test.labels, loaders.classes.index(label)).any():
        return [
            f"train.monitor={train.monitor}: no test image is of class '{label}', so this is not a number on the test"
        ]
    return []
