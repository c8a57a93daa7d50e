"""Schema of `sweep`: what `-m` does, and what a search varies."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded, path


class Cost(Enum):
    """A final number that is better the smaller it is."""

    params = "params"
    macs = "macs"
    size_mb = "size_mb"
    latency_ms_p50 = "latency_ms_p50"


class SearchSampler(Enum):
    """How a search chooses."""

    tpe = "tpe"
    random = "random"
    qmc = "qmc"
    cmaes = "cmaes"
    nsgaii = "nsgaii"
    grid = "grid"


class Pruner(Enum):
    """How runs of a sweep are chosen that end early."""

    none = "none"
    median = "median"
    asha = "asha"


@dataclass
class Parameter:
    """What one key may be: one of `choices`, or a number from `low` to `high`."""

    choices: list[Any] = field(default_factory=list)
    """Values, also of other kinds than numbers, and choices of a config group."""
    low: Optional[float] = None
    """Smallest number."""
    high: Optional[float] = None
    """Largest number."""
    log: bool = False
    """Whether ratios count instead of differences, as for learning rates."""
    step: Optional[float] = bounded(None, above=0)
    """Distance of the numbers that are tried; null: any number in between."""
    integer: bool = False
    """Whether only whole numbers are tried."""


@dataclass
class Optuna:
    """A search by Optuna; what is the best follows from `train.monitor` and `train.goal`."""

    trials: int = bounded(20, min=1)
    """Jobs; of a grid at most as many as it has points."""
    parallel: int = bounded(1, min=1)
    """Jobs that are chosen before one of them has to be done; a parallel `hydra/launcher` runs them side by side."""
    sampler: SearchSampler = SearchSampler.tpe
    """How it chooses: tpe (Bergstra et al., 2011), random, qmc (Sobol's points), cmaes (Hansen; numbers alone), nsgaii
    (Deb et al., 2002; for several goals), or grid (every combination of choices and steps)."""
    seed: int = bounded(0, min=0)
    """Seed of the choice. The same results lead to the same choices, also where a search was interrupted."""
    minimize: list[Cost] = field(default_factory=list)
    """Final numbers that should be small as well: no job is the best then, but none beats those on the Pareto front."""
    space: dict[str, Parameter] = field(default_factory=dict)
    """Key, or config group → what it may be. `KEY@PATTERN` is one entry of a key that holds a mapping."""


@dataclass
class Sweep:
    """What `-m` does with jobs that were run before, and how it chooses them."""

    resume: bool = False
    """Skip the finished jobs of the same sweep and continue the others."""
    fork_workers: bool = True
    """Whether jobs on a CPU that run one after the other are forked from a process that has imported Paddle (Linux)."""
    max_minutes: Optional[float] = bounded(None, above=0)
    """Minutes after which a search begins no further job, those before a resumption included; null: no limit."""
    pruner: Pruner = Pruner.none
    """Whether runs end early whose best validation is worse than that of the others after as many: median, or asha
    (asynchronous successive halving). They keep their checkpoints; `none` with `resume` goes on with them."""
    pruner_min_trials: int = bounded(4, min=1)
    """Other runs that must have come as far before one is ended."""
    pruner_warmup: int = bounded(1, min=0)
    """Validations after which no run is ended; asha first compares at the next one."""
    pruner_reduction_factor: int = bounded(3, min=2)
    """asha: one of so many goes on from one comparison to the next, which comes after so many times the validations."""
    warm_start: list[str] = path([])
    """Folders of earlier sweeps whose results a search by tpe begins with, as far as they compare."""
    optuna: Optional[Optuna] = None
    """What is searched, where something is: `+sweep/optuna=…`."""
