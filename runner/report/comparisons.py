"""Which differences between configurations that were tried several times are more than noise."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np

#: Part of all sweeps of equal configurations in which no difference at all is called real.
CONFIDENCE = 0.95
#: Rounds in which the means of configurations and repeats that were not all tried together are found, and what is 0.
ROUNDS, NOTHING = 200, 1e-12

#: Configuration → repeat (a seed and a fold) → what it reached, the higher the better.
Scores = Mapping[str, Mapping[Hashable, float]]


@dataclass(frozen=True)
class Difference:
    """How far a configuration is behind the best one, over the repeats that both have."""

    mean: float
    """Of the paired differences; positive where the best one is better."""
    low: float
    high: float
    """Ends of the confidence interval."""
    count: int
    """Repeats that both have."""

    @property
    def is_real(self) -> bool:
        """Whether it is more than noise: the interval has no 0."""
        return (self.low > 0 or self.high < 0) and abs(self.mean) > NOTHING


def best(scores: Scores) -> str:
    """The configuration with the highest mean; of equal ones the first.

    Where not every configuration has every repeat, that an easy seed or fold is missing counts for none of them.
    """
    effects, _ = _additive(_table(scores))
    return list(scores)[int(np.argmax(effects.round(12)))]


def behind(scores: Scores) -> dict[str, Difference | None]:
    """Every other configuration → how far it is behind the best; None where they share fewer than two repeats.

    Paired differences with the variance that is left once each configuration and each repeat has its mean (randomised
    blocks; of two configurations this is the paired t-test), or with that of the pair itself where it is larger. The
    intervals hold for all pairs at once (Tukey's studentized range), since the best is chosen by the same numbers.
    """
    chosen = best(scores)
    _, rest = _additive(table := _table(scores))
    tried, repeats = (int((~np.isnan(table)).any(axis=axis).sum()) for axis in (1, 0))
    freedom = int((~np.isnan(table)).sum()) - tried - repeats + 1
    result: dict[str, Difference | None] = {name: None for name in scores if name != chosen}
    if freedom < 1 or tried < 2:
        return result
    critical, variance = _critical(tried, freedom), float(np.nansum(rest**2)) / freedom
    for name in result:
        pairs = [value - scores[name][repeat] for repeat, value in scores[chosen].items() if repeat in scores[name]]
        if len(pairs) > 1:
            mean, own = math.fsum(pairs) / len(pairs), float(np.var(pairs, ddof=1))
            reach = critical * math.sqrt(max(2 * variance, own) / len(pairs))
            result[name] = Difference(mean, mean - reach, mean + reach, len(pairs))
    return result


@functools.lru_cache
def _critical(configurations: int, freedom: int) -> float:
    """Standard errors that the largest of all differences stays within, in `CONFIDENCE` of the cases."""
    from scipy import stats

    return float(stats.studentized_range.ppf(CONFIDENCE, configurations, freedom)) / math.sqrt(2)


def _table(scores: Scores) -> np.ndarray:
    """float64 [configurations, repeats], NaN where a repeat is missing."""
    columns = {repeat: place for place, repeat in enumerate(dict.fromkeys(itertools.chain(*scores.values())))}
    table = np.full((len(scores), len(columns)), np.nan)
    for row, values in enumerate(scores.values()):
        for repeat, value in values.items():
            table[row, columns[repeat]] = value
    return table


def _additive(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each configuration, [C], and what each result differs from that of its configuration and repeat, [C, R].

    The least squares of a sum of both; where all have all repeats the means are the usual ones.
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
