"""What must hold for frozen parts and for learning-rate factors."""

from __future__ import annotations

import math
from collections.abc import Iterator

from .. import ClsDistill, ClsDistillMultiopt, ClsTeacher, Config


def problems(config: Config) -> Iterator[str]:
    """Yields what cannot work. Every message names the key and the override that fixes it."""
    mode = config.mode
    models = {"model": config.model}
    optimizers = {"optimizer": config.optimizer}
    if isinstance(mode, ClsDistill) and mode.peer:
        models["mode.peer"] = mode.peer
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
