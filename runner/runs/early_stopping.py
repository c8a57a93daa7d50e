"""Ends runs of a sweep early that are worse than the others after as many validations."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from .. import config as cfg
from ..config import store
from ..config.monitor import goal_of
from ..errors import ConfigError, Damaged
from ..metrics.names import monitored
from ..terminal import counted
from . import compared, sweep
from .journal import CONFIG, JOURNAL, events

#: The status of a run that was ended early.
STOPPED_EARLY = "STOPPED_EARLY"


class StoppingRule:
    """Decides after each validation of a run whether it should end, from the journals of the sweep's runs.

    The same journals give the same answer, in any process and after any interruption.
    """

    def __init__(self, directory: Path, config: cfg.Config) -> None:
        """`directory`: of the run that it may end."""
        self.directory, self.config, self.settings = directory, config, config.sweep
        self.metric = f"val/{monitored(config.train.monitor)}"
        goal = goal_of(config.train.monitor, config.train.goal, config.train.metrics)
        self.sign = -1 if goal is cfg.Goal.min else 1
        self._readings: dict[Path, Reading] = {}

    def judge(self, step: int) -> str:
        """Why the run should end after its validation at a step; empty if it should continue.

        Other runs are ignored whose journal or config cannot be read, and those whose validations are no match for
        its own: on other images, or after another amount of training. Errors: Damaged for the run's own journal.
        """
        own = self.scores(self.directory, step)
        count = len(own)
        if count <= self.settings.pruner_warmup:
            return ""
        others, basis = [], self._basis(self.directory, self.config.train, self.config.data)
        for job in sweep.jobs(self.directory.parent):
            with contextlib.suppress(Damaged, ConfigError):
                if job.name == self.directory.name or len(scores := self.scores(job)) < count:
                    continue
                if self._basis(job, **store.read_groups(job / CONFIG, ("train", "data"))) == basis:
                    others.append(scores[:count])
        return verdict(self.settings, own, others, self.metric, self.sign)

    def _basis(self, directory: Path, train: cfg.Train, data: cfg.Data) -> tuple[Hashable, ...]:
        """What has to be equal for the scores of two runs to compare: on what they validate, and how often."""
        dataset = self._reading(directory).dataset
        every = (train.eval_every_steps, data.batch_size) if train.eval_every_steps else (train.eval_every,)
        return compared.split_digest(dataset, "val"), dataset.get("profile", {}).get("train"), *every

    def scores(self, directory: Path, until: float = math.inf) -> list[float]:
        """The monitored metric at each validation of a run so far; the sign is such that higher is better."""
        values = self._reading(directory).values()
        return [self.sign * value for step, value in sorted(values.items()) if step <= until]

    def _reading(self, directory: Path) -> Reading:
        return self._readings.setdefault(directory, Reading(directory, self.metric))


class Reading:
    """One metric of a journal, which is read on from where the last reading ended."""

    def __init__(self, directory: Path, metric: str) -> None:
        self.directory, self.metric = directory, metric
        self.offset = 0
        #: The last event `dataset` that was read; empty if there was none.
        self.dataset: dict[str, Any] = {}
        self._values: dict[int, float] = {}

    def values(self) -> dict[int, float]:
        """Step → value, the last one written of each step."""
        if not (self.directory / JOURNAL).is_file():
            return {}
        for event, offset in events(self.directory, self.offset):
            self.offset = offset
            if event["event"] == "dataset":
                self.dataset = event
            if event["event"] == "metrics" and self.metric in event["values"]:
                self._values[event["step"]] = event["values"][self.metric]
        return self._values

    def in_order(self) -> list[float]:
        """The value at each validation, the first one first."""
        return [value for _, value in sorted(self.values().items())]


def verdict(
    settings: cfg.Sweep, own: Sequence[float], others: Sequence[Sequence[float]], metric: str = "", sign: int = 1
) -> str:
    """Why a run should end after its validations so far; empty if it should continue.

    `own`, `others`: scores at each validation, higher is better; of the others as many as `own` has. Runs are compared
    by the best score of each, which also decides in the end; a run whose scores were never a number is the worst.
    `median` ends a run that is worse than the median (Golovin et al., Google Vizier, KDD 2017). `asha` compares after
    r, rη, rη² … validations and ends a run that is not among the best 1/η (Li et al., A System for Massively Parallel
    Hyperparameter Tuning, MLSys 2020).
    """
    count, warmup = len(own), settings.pruner_warmup
    if count <= warmup or len(others) < settings.pruner_min_trials:
        return ""
    mine, theirs = best(own), [best(scores) for scores in others]
    shown = "never a number" if math.isinf(mine) else f"{sign * mine:.4f}"
    begin = f"{metric} {shown} after {counted(count, 'validation')}"
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
    """Whether asha compares runs after `count` validations: after first · factorⁱ."""
    while first < count:
        first *= factor
    return first == count


def best(scores: Sequence[float]) -> float:
    """The highest score; minus infinity if none is a number."""
    return max((score for score in scores if not math.isnan(score)), default=-math.inf)


def may_end_early(directory: Path, config: cfg.Config) -> bool:
    """Whether a run may be ended early: it belongs to a sweep that has `sweep.pruner`."""
    return config.sweep.pruner is not cfg.Pruner.none and sweep.is_swept(directory)
