"""Schema of `sweep`: what `-m` does, and what a search varies."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded


class Cost(Enum):
    """A final number that is better the smaller it is."""

    params = "params"
    macs = "macs"
    size_mb = "size_mb"
    latency_ms_p50 = "latency_ms_p50"


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
    """Jobs."""
    parallel: int = bounded(1, min=1)
    """Jobs that are chosen before one of them has to be done; a parallel `hydra/launcher` runs them side by side."""
    seed: int = bounded(0, min=0)
    """Seed of the choice. The same results lead to the same choices, which is how an interrupted search goes on."""
    minimize: list[Cost] = field(default_factory=list)
    """Final numbers that should be small as well: no job is the best then, but none beats those on the Pareto front."""
    space: dict[str, Parameter] = field(default_factory=dict)
    """Key, or config group → what it may be."""


@dataclass
class Sweep:
    """What `-m` does with jobs that were run before, and how it chooses them."""

    resume: bool = False
    """Skip the finished jobs of the same sweep and continue the others."""
    fork_workers: bool = True
    """Whether jobs on a CPU that run one after the other are forked from a process that has imported Paddle (Linux)."""
    optuna: Optional[Optuna] = None
    """What is searched, where something is: `+sweep/optuna=…`."""
