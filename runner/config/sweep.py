"""Schema of `sweep`: what `-m` does, and what a search varies."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded, path


class Cost(Enum):
    """A final metric of which less is better."""

    params = "params"
    macs = "macs"
    size_mb = "size_mb"
    latency_ms_p50 = "latency_ms_p50"


class SearchSampler(Enum):
    """How a search chooses the next job."""

    tpe = "tpe"
    random = "random"
    qmc = "qmc"
    cmaes = "cmaes"
    nsgaii = "nsgaii"
    grid = "grid"


class Pruner(Enum):
    """The rule by which runs of a sweep are ended early."""

    none = "none"
    median = "median"
    asha = "asha"


@dataclass
class Parameter:
    """The range of one key: one of `choices`, or a number from `low` to `high`."""

    choices: list[Any] = field(default_factory=list)
    """Values of any type, or choices of a config group."""
    low: Optional[float] = None
    """Smallest number."""
    high: Optional[float] = None
    """Largest number."""
    log: bool = False
    """Whether to search on a logarithmic scale, as for learning rates."""
    step: Optional[float] = bounded(None, above=0)
    """Step between the numbers that are tried; null: any number in between."""
    integer: bool = False
    """Whether only integers are tried."""


@dataclass
class Optuna:
    """A search by Optuna; the objective follows from `train.monitor` and `train.goal`."""

    trials: int = bounded(20, min=1)
    """Number of jobs; for a grid at most the number of its points."""
    parallel: int = bounded(1, min=1)
    """Jobs that are chosen at a time, before their results are known; a parallel `hydra/launcher` runs them side by
    side."""
    sampler: SearchSampler = SearchSampler.tpe
    """tpe (Bergstra et al., 2011), random, qmc (Sobol's points), cmaes (Hansen; numbers alone), nsgaii (Deb et al.,
    2002; for several objectives), or grid (every combination of choices and steps)."""
    seed: int = bounded(0, min=0)
    """Seed of the sampler. The same results lead to the same choices, also after an interruption."""
    minimize: list[Cost] = field(default_factory=list)
    """Further final metrics to minimize: there is then no single best job but a Pareto front."""
    space: dict[str, Parameter] = field(default_factory=dict)
    """Key, or config group → its range. `KEY@PATTERN` is one entry of a key that holds a mapping."""


@dataclass
class Sweep:
    """What `-m` does with jobs that have run before, and how it chooses jobs."""

    resume: bool = False
    """Skip the finished jobs of the same sweep and continue the others."""
    fork_workers: bool = True
    """Whether jobs on a CPU that run one after another are forked from a process that has imported Paddle (Linux)."""
    max_minutes: Optional[float] = bounded(None, above=0, max=1e7)
    """Minutes after which a search starts no further job, including those before a resumption; null: no limit."""
    pruner: Pruner = Pruner.none
    """End runs early whose best validation is worse than that of the others after as many validations: median, or asha
    (asynchronous successive halving). They keep their checkpoints; `none` with `resume` continues them."""
    pruner_min_trials: int = bounded(4, min=1)
    """Number of other runs that must have reached the same validation before one is ended."""
    pruner_warmup: int = bounded(1, min=0)
    """Number of first validations after which no run is ended; asha first compares after the next one."""
    pruner_reduction_factor: int = bounded(3, min=2)
    """asha: one of this many runs continues after each comparison; the next one comes after this many times as many
    validations."""
    warm_start: list[str] = path([])
    """Folders of earlier sweeps whose results a search by tpe starts with, as far as they are comparable."""
    optuna: Optional[Optuna] = None
    """The search, if there is one: `+sweep/optuna=…`."""
