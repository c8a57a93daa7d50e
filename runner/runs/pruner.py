"""Which runs of a sweep are not worth their end: by their validations beside those of the others at that point."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from .. import config as cfg
from ..config.monitor import goal_of, monitored
from ..errors import Damaged
from . import sweep
from .journal import JOURNAL, events

#: The status of a run that was ended so.
STOPPED_EARLY = "STOPPED_EARLY"


class Pruner:
    """Judges a run of a sweep after each of its validations by the journals of the sweep's runs.

    The same journals lead to the same judgement, in whatever process and after whatever interruption.
    """

    def __init__(self, directory: Path, config: cfg.Config) -> None:
        """`directory`: of the run that is judged."""
        self.directory, self.settings = directory, config.sweep
        self.metric = f"val/{monitored(config.train.monitor)}"
        goal = goal_of(config.train.monitor, config.train.goal, config.train.metrics)
        self.sign = -1 if goal is cfg.Goal.min else 1
        self._readings: dict[Path, Reading] = {}

    def judge(self, step: int) -> str:
        """Why the run should end behind the validation of a step; empty where it should go on.

        Runs whose journal cannot be read are left out. Errors: Damaged of its own.
        """
        own = self.scores(self.directory, step)
        count = len(own)
        if count <= self.settings.pruner_warmup:
            return ""
        others = []
        for job in sweep.jobs(self.directory.parent):
            with contextlib.suppress(Damaged):
                if job.name != self.directory.name and len(scores := self.scores(job)) >= count:
                    others.append(scores[:count])
        return verdict(self.settings, own, others, self.metric, self.sign)

    def scores(self, directory: Path, until: float = math.inf) -> list[float]:
        """What a run monitored at each of its validations so far, the higher the better."""
        reading = self._readings.setdefault(directory, Reading(directory, self.metric))
        return [self.sign * value for step, value in sorted(reading.values().items()) if step <= until]


class Reading:
    """One metric of a journal, of which each look reads what is new."""

    def __init__(self, directory: Path, metric: str) -> None:
        self.directory, self.metric = directory, metric
        self.offset = 0
        self._values: dict[int, float] = {}

    def values(self) -> dict[int, float]:
        """Step → value, the last one written of each step."""
        if not (self.directory / JOURNAL).is_file():
            return {}
        for event, offset in events(self.directory, self.offset):
            self.offset = offset
            if event["event"] == "metrics" and self.metric in event["values"]:
                self._values[event["step"]] = event["values"][self.metric]
        return self._values

    def in_order(self) -> list[float]:
        """The value at each validation, the first one first."""
        return [value for _, value in sorted(self.values().items())]


def verdict(
    settings: cfg.Sweep, own: Sequence[float], others: Sequence[Sequence[float]], metric: str = "", sign: int = 1
) -> str:
    """Why a run should end after its validations so far; empty where it should go on.

    `own`, `others`: what was monitored, the higher the better, of the others at as many validations. What counts is the
    best one of each, as it is what decides in the end; one that was never a number is worst. `median`: ended where it
    is worse than the median (Golovin et al., Google Vizier, KDD 2017). `asha`: at validations r, rη, rη² … ended where
    it is not among the best 1/η (Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020).
    """
    count, warmup = len(own), settings.pruner_warmup
    if count <= warmup or len(others) < settings.pruner_min_trials:
        return ""
    mine, theirs = best(own), [best(scores) for scores in others]
    shown = "never a number" if math.isinf(mine) else f"{sign * mine:.4f}"
    begin = f"{metric} {shown} after {count} validations"
    match settings.pruner:
        case cfg.Pruner.median:
            middle = statistics.median(theirs)
            if mine < middle:
                return f"{begin} is worse than the median of {len(theirs)} others, {sign * middle:.4f}"
        case cfg.Pruner.asha:
            factor = settings.pruner_reduction_factor
            if is_rung(count, warmup + 1, factor):
                kept = max(1, (len(theirs) + 1) // factor)
                ahead = sum(score > mine for score in theirs)
                if ahead >= kept:
                    return f"{begin} is not among the best {kept} of {len(theirs) + 1} (sweep.pruner=asha)"
    return ""


def is_rung(count: int, first: int, factor: int) -> bool:
    """Whether runs are compared after so many validations: first · factorⁱ."""
    while first < count:
        first *= factor
    return first == count


def best(scores: Sequence[float]) -> float:
    """The highest score; minus infinity where none is a number."""
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)


def is_pruned(directory: Path, config: cfg.Config) -> bool:
    """Whether a run may be ended early: one of a sweep that has a pruner."""
    return config.sweep.pruner is not cfg.Pruner.none and sweep.is_swept(directory)
