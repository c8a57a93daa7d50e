"""Learning-rate schedules: the factor of the base rate as a pure function of the optimizer step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from .. import config as cfg
from ..config.targets import load_target, wrong_result
from ..errors import ConfigError

#: Default length of a warm-up: epochs, but at most this fraction of the run.
WARMUP_EPOCHS, WARMUP_PART = 5.0, 0.2


def factor(config: cfg.Schedule, step: int, steps: int, steps_per_epoch: int, scores: Sequence[float] = ()) -> float:
    """The factor of the base learning rate at optimizer step `step` (the first is 0) of `steps`.

    Schedules with an end value reach it at step `steps - 1`. Epochs are converted to steps with the actual number of
    steps in an epoch, so neither batch size nor number of processes changes where a schedule ends. `scores` are those
    of the validations so far; higher is better. Errors: ConfigError of a user-defined schedule.
    """
    # The rate of the step after the last one is asked for as well.
    step = min(step, max(0, steps - 1))
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
        case cfg.CosineRestarts(cycle_epochs=epochs, cycle_factor=growth, end_factor=end):
            begin, length = _cycle(step, max(1, round(epochs * steps_per_epoch)), growth)
            return _cosine(end, step, begin, begin + length)
        case cfg.Polynomial(warmup_epochs=epochs, start_factor=start, end_factor=end, power=power):
            warmup = warmup_steps(epochs, steps, steps_per_epoch)
            if step < warmup:
                return _linear(start, step / warmup)
            return end + (1 - end) * (1 - _progress(step, warmup, steps)) ** power
        case cfg.OneCycle(rise=rise, start_factor=start, end_factor=end):
            top = round(rise * (steps - 1))
            return start + (1 - start) * _half(step / top) if step < top else _cosine(end, step, top, steps)
        case cfg.Plateau(gamma=gamma, min_factor=least):
            return max(least, gamma ** _reductions(scores, config.patience, config.min_delta))
        case cfg.ExponentialWarmup(warmup_epochs=epochs, start_factor=start):
            warmup = warmup_steps(epochs, steps, steps_per_epoch)
            if step < warmup:
                return _linear(start, step / warmup)
            decays = math.floor((step - warmup) / (config.decay_epochs * steps_per_epoch))
            return config.gamma**decays
        case cfg.CustomSchedule():
            return _custom(config, step, steps, steps_per_epoch)
    raise AssertionError(config)


def _custom(config: cfg.CustomSchedule, step: int, steps: int, steps_per_epoch: int) -> float:
    custom, setting = load_target(config.target), f"schedule.target={config.target}"
    place = f"step={step}, steps={steps}, steps_per_epoch={steps_per_epoch}"
    try:
        factor = custom(step=step, steps=steps, steps_per_epoch=steps_per_epoch, **config.kwargs)
    except Exception as error:
        raise ConfigError(
            f"{setting} raised {type(error).__name__}: {error}. It was given {place}, and kwargs={config.kwargs}."
        ) from error
    try:
        number = float(factor)
    except (TypeError, ValueError) as error:
        raise wrong_result(setting, factor, "a number") from error
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(f"{setting} returned {number:g} at {place}: the factor must be finite and not negative.")
    return number


def warmup_steps(epochs: float | None, steps: int, steps_per_epoch: int) -> int:
    """Optimizer steps of a warm-up of `epochs` epochs, at most all but the last; None: a default that suits the run.

    The default is five epochs, but at most a fifth of the run.
    """
    if epochs is None:
        return min(round(WARMUP_EPOCHS * steps_per_epoch), round(WARMUP_PART * steps), max(0, steps - 1))
    return min(round(epochs * steps_per_epoch), steps - 1)


def _cycle(step: int, length: int, growth: float) -> tuple[int, int]:
    """First step and length of the cycle that `step` is in; each is `growth` times as long as the one before."""
    begin, exact = 0, float(length)
    while step >= begin + length:
        begin += length
        exact *= growth
        length = round(exact)
    return begin, length


def _reductions(scores: Sequence[float], patience: int, min_delta: float) -> int:
    """How often `patience` validations in a row did not improve on the best before them."""
    reductions, waited, best = 0, 0, -math.inf
    for score in scores:
        # A NaN is no improvement.
        if score > best + min_delta:
            best, waited = score, 0
            continue
        waited += 1
        if waited == patience:
            reductions, waited = reductions + 1, 0
    return reductions


def _linear(start: float, progress: float) -> float:
    return start + (1 - start) * progress


def _half(progress: float) -> float:
    """Half a cosine from 0 up to 1."""
    return 0.5 * (1 - math.cos(math.pi * progress))


def _progress(step: int, begin: int, steps: int) -> float:
    """From 0 at step `begin` to 1 at the last one of `steps`."""
    return min(1.0, (step - begin) / max(1, steps - 1 - begin))


def _cosine(end: float, step: int, begin: int, steps: int) -> float:
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * _progress(step, begin, steps)))
