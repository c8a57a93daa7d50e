"""Refusals that need the images: how long an epoch is, and which metrics its classes define."""

from __future__ import annotations

import numpy as np

from .. import config as cfg
from ..config.monitor import is_known, monitored, refusal
from ..data.classes import listed
from ..data.labels import class_counts
from ..deploy.predict import UNKNOWN
from ..errors import ConfigError
from ..training.evaluation import undefined
from ..training.state import Training


def warmups(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    """Errors: ConfigError for a warm-up that is not shorter than the run."""
    peer = config.mode.peer_schedule if isinstance(config.mode, cfg.ClsDistillMultiopt) else None
    for key, schedule in (("schedule", config.schedule), ("mode.peer_schedule", peer)):
        if not isinstance(schedule, (cfg.CosineWarmup, cfg.ExponentialWarmup, cfg.Polynomial)):
            continue
        wanted = schedule.warmup_epochs
        if wanted is not None and not config.debug.fast_dev_run and 0 < steps <= round(wanted * steps_per_epoch):
            raise ConfigError(
                f"{key}.warmup_epochs={wanted}: the warm-up is not shorter than the run of {steps} "
                f"steps ({steps_per_epoch} an epoch). Lower it, such as {key}.warmup_epochs=0"
            )


def metrics(config: cfg.Config, training: Training) -> None:
    """Errors: ConfigError for a monitored metric that does not exist, and for a user-defined one that fails."""
    train, networks = config.train, training.networks.trained
    if config.deploy.unknown_accuracy and UNKNOWN in training.loaders.classes:
        raise ConfigError(
            f"deploy.unknown_accuracy: a class is already called '{UNKNOWN}', the answer for less "
            "confident predictions. Rename the class, or use deploy.unknown_accuracy=null"
        )
    loaders = training.loaders
    labels, count = (loaders.val.split if loaders.val else loaders.source.train).labels, len(loaders.classes)
    unknown = training.ranks.broadcast_from_first(lambda: undefined(training.metrics, labels, count))
    if training.loaders.val is None:
        if any(isinstance(part.schedule.schedule, cfg.Plateau) for part in training.optimizations):
            raise ConfigError(
                "schedule=plateau follows validations, and there is no validation split: hold one out, such as "
                "data.val_fraction=0.1, or choose another schedule."
            )
        needed = {f"train.{key}": getattr(train, key) for key in ("patience", "eval_every_steps")}
        needed |= {"deploy.unknown_accuracy": config.deploy.unknown_accuracy}
        for key, value in (needed | {"sweep.pruner": config.sweep.pruner is not cfg.Pruner.none}).items():
            if value:
                raise ConfigError(
                    f"{key} needs a validation split: hold one out, such as data.val_fraction=0.1, or remove it."
                )
    elif not is_known(train.monitor, networks, training.metrics, training.k):
        raise ConfigError(refusal(train.monitor, networks, training.metrics, training.k))
    elif (name := monitored(train.monitor).partition("/")[2]) in unknown and name not in train.metrics:
        present = [loaders.classes[place] for place in np.flatnonzero(class_counts(labels, count))]
        raise ConfigError(
            f"train.monitor={train.monitor}: {name} is not defined on the validation split, all of whose images are of "
            f"{listed(present)}. Hold out images of other classes as well, or monitor another metric, such as val/loss."
        )
