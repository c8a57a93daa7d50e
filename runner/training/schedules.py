"""The learning rate's factor as a pure function of the optimizer step."""

from __future__ import annotations

import bisect
import math

from .. import config as cfg
from ..config.targets import load_target


def factor(config: cfg.Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """What the base learning rate is multiplied with at optimizer step `step` (the first is 0) of `steps`.

    The schedules that end reach their end value at step `steps - 1`. Epochs are turned into steps with the real number
    of steps in an epoch, so neither batch size nor number of processes changes where a schedule ends.
    """
    match config:
        case cfg.Constant():
            return 1.0
        case cfg.Piecewise(boundaries=boundaries, factors=factors):
            return factors[bisect.bisect_right(boundaries, step / steps_per_epoch)]
        case cfg.CosineWarmup(warmup_epochs=epochs, start_factor=start):
            warmup = warmup_steps(epochs, steps, steps_per_epoch)
            return _linear(start, step / warmup) if step < warmup else _cosine(config.end_factor, step, warmup, steps)
        case cfg.Cosine(end_factor=end):
            return _cosine(end, step, 0, steps)
        case cfg.ExponentialWarmup(warmup_epochs=epochs, start_factor=start):
            warmup = warmup_steps(epochs, steps, steps_per_epoch)
            if step < warmup:
                return _linear(start, step / warmup)
            decays = math.floor((step - warmup) / (config.decay_epochs * steps_per_epoch))
            return config.gamma**decays
        case cfg.CustomSchedule(target=target, kwargs=kwargs):
            custom = load_target(target)
            return float(custom(step=step, steps=steps, steps_per_epoch=steps_per_epoch, **kwargs))
    raise AssertionError(config)


def warmup_steps(epochs: float, steps: int, steps_per_epoch: int) -> int:
    """Optimizer steps that a warm-up of so many epochs takes; at most all but the last."""
    return min(round(epochs * steps_per_epoch), steps - 1)


def _linear(start: float, progress: float) -> float:
    return start + (1 - start) * progress


def _cosine(end: float, step: int, begin: int, steps: int) -> float:
    progress = min(1.0, (step - begin) / max(1, steps - 1 - begin))
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * progress))
