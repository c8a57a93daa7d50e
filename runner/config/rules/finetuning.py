"""What must hold for frozen parts and for learning-rate factors."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .. import ClsDistill, ClsDistillMultiopt, ClsTeacher, Config, Model


def _models(config: Config) -> dict[str, Model]:
    """Key → model of the networks that train."""
    peer = config.mode.peer if isinstance(config.mode, ClsDistill) else None
    return {"model": config.model} | ({"mode.peer": peer} if peer else {})


def length(config: Config) -> Iterator[str]:
    """Yields why parts that are frozen for a while would be so to the end, as far as numbers of epochs say it."""
    train = config.train
    if train.max_steps or train.max_minutes or config.debug.fast_dev_run:
        return
    for key, model in _models(config).items():
        if model.freeze_epochs is not None and 0 < train.epochs <= model.freeze_epochs:
            yield (
                f"{key}.freeze_epochs={model.freeze_epochs:g}: the run ends before that, with train.epochs="
                f"{train.epochs}. Lower it, such as {key}.freeze_epochs={train.epochs / 2:g}, or keep {key}.freeze "
                f"frozen to the end: {key}.freeze_epochs=null"
            )


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    mode = config.mode
    models = _models(config)
    optimizers = {"optimizer": config.optimizer}
    if isinstance(mode, ClsDistillMultiopt) and mode.peer_optimizer:
        optimizers["mode.peer_optimizer"] = mode.peer_optimizer
    for one in mode.teachers.values() if isinstance(mode, ClsTeacher) else ():
        if one.teacher and one.teacher.freeze:
            yield f"mode.teacher.freeze={one.teacher.freeze}: no part of a teacher is trained. Remove it."
    for key, model in models.items():
        if model.freeze_epochs is not None and not model.freeze:
            yield (
                f"{key}.freeze_epochs={model.freeze_epochs}: {key}.freeze says what does not train until then, such as "
                f"{key}.freeze=backbone"
            )
    for key, optimizer in optimizers.items():
        for pattern, factor in optimizer.lr_scale.items():
            if factor == 0:
                yield f"{key}.lr_scale.{pattern}=0: to freeze these layers, at no cost, use model.freeze={pattern}"
            if not 0 < factor < math.inf:
                yield f"{key}.lr_scale.{pattern}={factor}: must be above 0, and a number."
