"""Hyperparameter importance in a search (fANOVA), with its uncertainty."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import study as studies
from ..runs.sweep import STUDY
from ..terminal import counted
from .subject import Run

#: Fewest finished trials for which importances are reported.
FEWEST = 10
#: Trees of a forest, and bootstrap resamples for the ranges.
TREES, DRAWN = 16, 10


@dataclass
class Importance:
    """The importance of one key of a search's space."""

    key: str
    share: float
    """Fraction of the monitored metric's variance over the space that this key explains by itself, from 0 to 1."""
    low: float
    high: float
    """Ends of its range over bootstrap resamples of the trials."""

    @property
    def text(self) -> str:
        """`0.71 (0.40 … 0.85)`."""
        return f"{self.share:.2f} ({self.low:.2f} … {self.high:.2f})"


@dataclass
class Importances:
    """The importances of all keys of a search, the largest first."""

    keys: list[Importance]
    trials: int
    """Number of finished trials that they are computed from."""
    chance: float
    """The largest importance of any key when results are shuffled among the trials."""

    @property
    def sentence(self) -> str:
        """What the importances mean, and what they do not."""
        return (
            "Share of the monitored metric's variance that a key explains by itself (fANOVA; Hutter et al., 2014), "
            f"from {counted(self.trials, 'finished trial')}; the rest is explained by several keys together or by "
            f"none. In brackets: the range over {DRAWN} bootstrap resamples of the trials; where ranges overlap, the "
            f"order of the keys is not known. With the results shuffled among the trials, {DRAWN} times, a key "
            f"explained up to {self.chance:.2f}: smaller shares mean nothing. All of this holds only for the ranges "
            "that were searched."
        )


def of(runs: Sequence[Run]) -> Importances | None:
    """The importances of the search that runs belong to; None if they belong to none, or it has too few trials."""
    folders = {run.directory.parent for run in runs}
    if len(folders) != 1 or not (path := folders.pop() / STUDY).is_file():
        return None
    return of_study(path.parent, path.stat().st_size)


@functools.lru_cache(1)
def of_study(directory: Path, _size: int = 0) -> Importances | None:
    """The importances of a search's folder; cached, because they take a second and are needed twice at its end."""
    study = studies.load(directory)
    if study is None:
        return None
    from optuna.trial import TrialState

    trials = [one for one in study.get_trials(deepcopy=False) if one.state is TrialState.COMPLETE]
    names = list(trials[0].params) if trials else []
    trials = [one for one in trials if list(one.params) == names]
    values = [one.values[0] for one in trials]
    if len(trials) < FEWEST or not (shares := _shares(trials, values, 0)):
        return None
    generator = random.Random(0)
    again, chance = [], []
    for seed in range(1, DRAWN + 1):
        drawn = generator.choices(range(len(trials)), k=len(trials))
        again.append(_shares([trials[place] for place in drawn], [values[place] for place in drawn], seed))
        chance.append(_shares(trials, generator.sample(values, len(values)), seed))
    importances = []
    for name, share in sorted(shares.items(), key=lambda pair: -pair[1]):
        of_key = [one.get(name, share) for one in again]
        importances.append(Importance(name.lstrip("+"), share, min(of_key), max(of_key)))
    return Importances(importances, len(trials), max(share for one in chance for share in [*one.values(), 0.0]))


def _shares(trials: Sequence[Any], values: Sequence[float], seed: int) -> dict[str, float]:
    """Key → importance; empty if all trials have the same result, or no key was varied."""
    import optuna

    study = optuna.create_study(directions=["maximize"])
    for trial, value in zip(trials, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=value))
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, max_depth=16, seed=seed)
        return dict(evaluator.evaluate(study))
    except (ImportError, RuntimeError, ValueError):
        return {}
