"""Runs of a sweep that differ only in seed and fold, as one configuration: means, deviations, significance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..metrics import Goal
from ..terminal import counted
from . import comparisons, ranking
from .comparisons import Difference
from .subject import Run, shortened

#: How a configuration compares with the best one.
BEST, EQUAL, WORSE, ALONE = "best", "noise", "worse", "not compared"


@dataclass
class Configuration:
    """Finished runs that differ only in seed and fold."""

    own: list[str]
    """Overrides in which it differs from the others."""
    runs: list[Run]
    """One run for each seed and fold."""
    verdict: str = ALONE
    """`BEST`; `EQUAL`: the difference from the best is noise; `WORSE`; or `ALONE`: too few seeds in common with it."""
    difference: Difference | None = None
    """How far it is below the best."""

    @property
    def name(self) -> str:
        """The overrides in which it differs from the others, or `all runs`."""
        return shortened(" ".join(self.own)) or "all runs"

    @property
    def run(self) -> Run:
        """Its best run."""
        return max(self.runs, key=lambda run: run.score)

    def text(self, metric: str = "") -> str:
        """`0.9512 ± 0.0031`: mean and sample standard deviation of the monitored metric, or of a final metric.

        Empty where a run has no such number.
        """
        values = [run.final.get(metric, math.nan) if metric else run.monitored for run in self.runs]
        if not all(map(math.isfinite, values)):
            return ""
        deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):.4f}{deviation}"

    @property
    def interval(self) -> str:
        """`-0.0123 (-0.0200 … -0.0046)`: its mean minus that of the best, with the confidence interval."""
        if self.difference is None:
            return ""
        sign = -1 if self.run.goal is Goal.min else 1
        mean, *ends = (-sign * number for number in (self.difference.mean, self.difference.low, self.difference.high))
        return f"{mean:+.4f} ({min(ends):+.4f} … {max(ends):+.4f})"


def of(runs: Sequence[Run]) -> list[Configuration]:
    """The configurations of the finished runs, the best first; none if no two runs share one, or none is the best.

    Of runs with the same seed and fold the last one counts.
    """
    runs_of: dict[tuple[str, ...], dict[Hashable, Run]] = {}
    for run in runs:
        if run.finished and run.config and math.isfinite(run.score):
            runs_of.setdefault(run.varied, {})[_repeat(run)] = run
    if max(map(len, runs_of.values()), default=0) < 2 or ranking.of(runs).obstacle:
        return []
    configurations = {" ".join(own): Configuration(list(own), [*some.values()]) for own, some in runs_of.items()}
    scores = {" ".join(own): {repeat: run.score for repeat, run in some.items()} for own, some in runs_of.items()}
    best = comparisons.best(scores)
    configurations[best].verdict = BEST
    for name, difference in comparisons.behind(scores).items():
        one = configurations[name]
        one.difference = difference
        one.verdict = ALONE if difference is None else WORSE if difference.is_real else EQUAL
    rest = sorted((one for name, one in configurations.items() if name != best), key=_order)
    return [configurations[best], *rest]


def _order(one: Configuration) -> float:
    return -statistics.fmean(run.score for run in one.runs)


def _repeat(run: Run) -> Hashable:
    assert run.config
    data = run.config.data
    return run.config.train.seed, data.folds, data.fold, data.split_seed


def sentences(configurations: Sequence[Configuration]) -> list[str]:
    """Sentences on the best configuration, and on which differences are noise."""
    if not configurations:
        return []
    best, others = configurations[0], configurations[1:]
    runs_of_it = counted(len(best.runs), "run")
    lines = [f"{best.run.decided_by} of {best.name} is {best.text()}, mean and deviation of {runs_of_it}."]
    if not others:
        return lines
    of_each = {kind: [one.name for one in others if one.verdict == kind] for kind in (EQUAL, WORSE, ALONE)}
    if of_each[EQUAL]:
        lines.append(f"The difference from it is noise: {_list(of_each[EQUAL])}.")
    if of_each[WORSE]:
        lines.append(f"Worse by more than noise: {_list(of_each[WORSE])}.")
    if of_each[ALONE]:
        lines.append(f"Too few seeds or folds in common with it to tell: {_list(of_each[ALONE])}.")
    lines.append(
        f"Paired by seed and fold, with {comparisons.CONFIDENCE:.0%} confidence for all {len(configurations)} "
        "configurations at once."
    )
    return lines


def _list(names: Sequence[str], most: int = 8) -> str:
    more = f"; and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


def tags(configurations: Sequence[Configuration]) -> dict[Path, dict[str, str]]:
    """Tags for each run of a configuration in MLflow."""
    return {
        run.directory: {
            "configuration": one.name,
            "configuration.runs": str(len(one.runs)),
            "configuration.monitored": one.text(),
            "configuration.verdict": one.verdict,
            # Also if it is empty: another one may have been the best before.
            "configuration.behind_best": one.interval,
        }
        for one in configurations for run in one.runs
    }  # fmt: skip
