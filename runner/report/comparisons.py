"""Which differences between configurations with repeated runs are statistically significant."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Confidence: the fraction of sweeps of equal configurations in which no difference is called real.
CONFIDENCE = 0.95
#: Most iterations, and tolerance, of the fit of means to an incomplete table.
ROUNDS, NOTHING = 200, 1e-12
#: Shares of fewer than a million images are told from other numbers.
SHARE = 1e-6

#: Configuration → repeat (seed and fold) → its result, higher is better.
Scores = Mapping[str, Mapping[Any, float]]


@dataclass(frozen=True)
class Difference:
    """How far a configuration is below the best one, over the repeats that both have."""

    mean: float
    """Mean of the paired differences; positive if the best one is better."""
    low: float
    high: float
    """Ends of the confidence interval."""
    count: int
    """Number of repeats that both have."""

    @property
    def is_real(self) -> bool:
        """Whether it is significant: the interval does not contain 0."""
        return (self.low > 0 or self.high < 0) and abs(self.mean) > NOTHING


def best(scores: Scores) -> str:
    """The configuration with the highest mean; of equal ones the first.

    If some lack some repeats, means are fitted so that lacking an easy seed or fold is no disadvantage.
    """
    effects, _ = _additive(_table(scores))
    return list(scores)[int(np.argmax(effects.round(12)))]


def behind(scores: Scores) -> dict[str, Difference | None]:
    """Every other configuration → how far it is below the best; None if they share fewer than two repeats.

    Paired differences with the variance that remains after removing the means of configurations and repeats (randomised
    blocks; for two configurations this is the paired t-test), or with that of the pair itself if it is larger, and at
    least that of the rounding of a metric that counts a few images. The intervals hold for all pairs simultaneously
    (Tukey's studentized range), since the best is chosen from the same results.
    """
    chosen = best(scores)
    _, rest = _additive(table := _table(scores))
    tried, repeats = (int((~np.isnan(table)).any(axis=axis).sum()) for axis in (1, 0))
    freedom = int((~np.isnan(table)).sum()) - tried - repeats + 1
    result: dict[str, Difference | None] = {name: None for name in scores if name != chosen}
    if freedom < 1 or tried < 2:
        return result
    critical, variance = _critical(tried, freedom), float(np.nansum(rest**2)) / freedom
    # Of parts of equal size, or nearly: where all results are 0 or 1 nothing is known of it.
    rounding = 2 * min(_rounding(column[~np.isnan(column)]) for column in table.T)
    for name in result:
        pairs = [value - scores[name][repeat] for repeat, value in scores[chosen].items() if repeat in scores[name]]
        if len(pairs) > 1:
            mean, own = math.fsum(pairs) / len(pairs), float(np.var(pairs, ddof=1))
            reach = critical * math.sqrt(max(2 * variance, own, rounding) / len(pairs))
            result[name] = Difference(mean, mean - reach, mean + reach, len(pairs))
    return result


@functools.lru_cache
def _critical(configurations: int, freedom: int) -> float:
    """The number of standard errors within which the largest of all differences stays with probability `CONFIDENCE`."""
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, configurations, freedom)) / math.sqrt(2)


def _rounding(results: np.ndarray) -> float:
    """The variance of rounding to a multiple of 1 / n, which is 1 / 12n², if results are shares of n images; else ~0.

    Differences of counts of a few images are often exactly equal, as if nothing varied.
    """
    step = functools.reduce(_common_divisor, (abs(float(value)) for value in results), 1.0)
    return step**2 / 12


def _common_divisor(one: float, other: float) -> float:
    """Euclid's algorithm, up to `SHARE`."""
    while other > SHARE:
        one, other = other, one % other
        # What rounding leaves of a multiple is nearly the divisor.
        other = 0.0 if one - other < SHARE else other
    return one


def _table(scores: Scores) -> np.ndarray:
    """float64 [configurations, repeats], NaN where a repeat is missing."""
    columns = {repeat: place for place, repeat in enumerate(dict.fromkeys(itertools.chain(*scores.values())))}
    table = np.full((len(scores), len(columns)), np.nan)
    for row, values in enumerate(scores.values()):
        for repeat, value in values.items():
            table[row, columns[repeat]] = value
    return table


def _additive(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each configuration, [C], and the residual of each result given its configuration and repeat, [C, R].

    The least-squares fit of a sum of both; for a complete table the means are the ordinary ones.
    """
    present = ~np.isnan(table)
    per_row, per_column = np.maximum(present.sum(axis=1), 1), np.maximum(present.sum(axis=0), 1)
    center = float(np.nanmean(table)) if present.any() else 0.0
    rest = np.where(present, table - center, 0.0)
    effects = np.full(len(table), center)
    for _ in range(ROUNDS):
        step = rest.sum(axis=1) / per_row
        effects += step
        rest = np.where(present, rest - step[:, None], 0.0)
        rest = np.where(present, rest - (rest.sum(axis=0) / per_column)[None, :], 0.0)
        if abs(step).max(initial=0.0) <= NOTHING:
            break
    return np.where(present.any(axis=1), effects, -np.inf), np.where(present, rest, np.nan)
