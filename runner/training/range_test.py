"""The learning-rate range test (Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .. import config as cfg
from .loop import train_step
from .state import Training

#: Steps on either side over which losses are averaged, as a fraction of all steps.
SMOOTHING = 0.04
#: A smoothed loss this many times the lowest one has exploded.
EXPLODED = 4.0
#: How far the suggested rate stays below the one with the lowest loss, beyond which training diverges: the factor of
#: fastai's `minimum`.
DISTANCE = 10.0
#: Fraction by which a loss must fall for a rate to be suggested.
FALLS = 0.02


@dataclass(frozen=True)
class Range:
    """Training losses at rising learning rates."""

    rates: list[float]
    """Those of `optimizer.lr`."""
    losses: list[float]
    """Finite, in the order of the rates."""
    smoothed: list[float]
    """Means over neighbours."""
    lowest: int
    """Where the smoothed loss is lowest."""
    suggested: int | None
    """Where it falls fastest, of the rates up to a tenth of that with the lowest loss; None where it hardly falls."""


def configured(config: cfg.Config, low: float, high: float, steps: int) -> cfg.Config:
    """The config of a run whose learning rate rises geometrically from `low` to `high`, without validation or export.

    A second optimizer keeps the ratio of its rate to the first one's.
    """
    schedule = cfg.CustomSchedule(target=f"{__name__}:rising", kwargs={"ratio": high / low})
    mode = config.mode
    if isinstance(mode, cfg.ClsDistillMultiopt):
        own = mode.peer_optimizer
        peer = own and replace(own, lr=own.lr * low / config.optimizer.lr)
        mode = replace(mode, peer_optimizer=peer, peer_schedule=None)
    train = replace(
        config.train, max_steps=steps, max_minutes=None, ema=None, patience=None, eval_every_steps=None,
        callbacks=[],
    )  # fmt: skip
    # So few steps would all be in the last epochs; they are to be like the first one.
    augment = replace(config.augment, mix_off_epochs=0, mix_last_probability=None)
    optimizer = replace(config.optimizer, lr=low)
    model = replace(config.model, freeze_epochs=None)
    if isinstance(mode, cfg.ClsDistill) and mode.peer:
        mode = replace(mode, peer=replace(mode.peer, freeze_epochs=None))
    return replace(config, model=model, mode=mode, train=train, schedule=schedule, optimizer=optimizer, augment=augment)


def rising(step: int, steps: int, steps_per_epoch: int, ratio: float) -> float:
    """The schedule: a factor from 1 at the first step to `ratio` at the last."""
    return ratio ** (step / max(1, steps - 1))


def run(training: Training, tell: Callable[[int, int], None]) -> Range:
    """Train until the highest rate is reached or the loss explodes. `tell` is called with (steps done, all steps)."""
    rates: list[float] = []
    losses: list[float] = []
    lowest, reach = math.inf, _reach(training.steps)
    training.networks.train()
    while len(losses) < training.steps:
        for batch in training.loaders.train.epoch(training.progress.epoch):
            rate = training.optimizations[0].lr
            reading = train_step(training, batch)
            training.progress.step += 1
            assert reading.values is not None
            # The values after the losses are hits.
            loss = float(reading.values[-3])
            if not math.isfinite(loss):
                return of(rates, losses, reach)
            rates.append(rate)
            losses.append(loss)
            recent = float(np.mean(losses[-2 * reach - 1 :]))
            lowest = min(lowest, recent)
            tell(len(losses), training.steps)
            # A loss may be negative.
            most = lowest + (EXPLODED - 1) * max(abs(lowest), FALLS * abs(losses[0]))
            if recent > most or len(losses) == training.steps:
                return of(rates, losses, reach)
        training.progress.epoch += 1
    return of(rates, losses, reach)


def _reach(steps: int) -> int:
    return max(1, round(SMOOTHING * steps))


def of(rates: list[float], losses: list[float], reach: int) -> Range:
    """The result of losses at rising rates, smoothed over `reach` neighbours on either side.

    Where even the first rate is above a tenth of the one with the lowest loss, the first one is suggested.
    """
    smoothed = [float(np.mean(losses[max(0, at - reach) : at + reach + 1])) for at in range(len(losses))]
    if len(smoothed) < 3:
        return Range(rates, losses, smoothed, 0, None)
    lowest = int(np.argmin(smoothed))
    falls = smoothed[0] - smoothed[lowest] > FALLS * abs(smoothed[0])
    if not falls:
        return Range(rates, losses, smoothed, lowest, None)
    # Rates are evenly spaced in their logarithm.
    steepest = int(np.argmin(np.gradient(smoothed)[:lowest]))
    last = int(np.searchsorted(rates, rates[lowest] / DISTANCE * (1 + 1e-9), side="right")) - 1
    return Range(rates, losses, smoothed, lowest, max(0, min(steepest, last)))
