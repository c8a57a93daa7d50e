"""The state of the training loop, and the observer that it reports to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypedDict

from ..config import Checkpoint, Train
from ..data import Loaders
from ..metrics import METRICS, Metric
from ..models import Freezing, Networks
from ..parallel import Ranks, Replicas, Shard
from .clock import Clock
from .ema import Ema
from .evaluation import Evaluation
from .modes import Mode
from .optimizers import Optimization
from .precision import Precision
from .precomputed import Precomputed
from .pruning import GradualPruning


class Unread(TypedDict, total=False):
    """Readings of steps that have not been logged yet."""

    names: list[str]
    rates: list[float]
    values: list[list[float]]
    images: int
    counts: list[float]
    fresh: int


@dataclass
class Progress:
    """How far a run is: all that a checkpoint stores besides weights and random generators."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    batch: int = 0
    """Batches done in the current epoch."""
    best: float | None = None
    """Best monitored metric so far."""
    best_step: int = 0
    """Optimizer step at which it was measured."""
    waited: int = 0
    """Evaluations since the monitored metric last improved by more than `min_delta`."""
    settled: int = 0
    """Step at which training last paused for an evaluation, the end of an epoch, or of the run."""
    scores: list[float] = field(default_factory=list)
    """The monitored metric of every validation, negated if lower is better."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network → multi-label: the best thresholds on the last validation."""
    validation_s: float = 0.0
    """Seconds that the last validation took, where `train.max_minutes` limits the run."""
    unread: Unread = field(default_factory=Unread)
    """Readings of the steps since the metrics were last logged."""

    @property
    def epochs_begun(self) -> int:
        """Number of the current or just finished epoch, from 1."""
        return self.epoch + (self.batch > 0)


@dataclass
class Training:
    """Everything the loop needs."""

    networks: Networks
    mode: Mode
    freezing: Freezing
    """What does not train."""
    optimizations: list[Optimization]
    precision: Precision
    loaders: Loaders
    settings: Train
    checkpoints: Checkpoint
    steps: int
    """Optimizer steps of the whole run; with `train.max_minutes` an estimate until the run ends."""
    k: int
    """The k of top-k accuracy."""
    metrics: Sequence[Metric] = field(default_factory=lambda: METRICS)
    """The metrics that an evaluation computes."""
    ema: Ema | None = None
    average: Ema | None = None
    """Mean teacher: the student's average, held in the weights of a frozen network."""
    clock: Clock | None = None
    """The time budget, where `train.max_minutes` limits the run."""
    pruner: GradualPruning | None = None
    """Prunes the networks between epochs."""
    precomputed: Precomputed | None = None
    """The logits of teachers, where they are not computed in every step."""
    precomputing_s: float = 0.0
    """Seconds in which those were computed, over all attempts."""
    shard: Shard = field(default_factory=lambda: Shard(Ranks()))
    """This process's share of each batch."""
    replicas: Replicas = field(init=False)
    """The networks as they are trained, and the communication between processes."""
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.replicas = Replicas(self.networks)

    @property
    def compares(self) -> bool:
        """Whether evaluations can decide on the best weights: not before the last cut, while networks are too large."""
        return self.pruner is None or self.pruner.is_complete

    @property
    def ranks(self) -> Ranks:
        """This process among those of the run."""
        return self.shard.ranks

    def follow(self) -> None:
        """Give every optimizer its next learning rate; schedules may follow the clock and validation scores."""
        for optimization in self.optimizations:
            optimization.schedule.follow(self.steps, self.progress.scores)

    @property
    def validations_left(self) -> int:
        """How many validations are still to come."""
        if self.loaders.val is None:
            return 0
        every = self.settings.eval_every_steps
        every = every or self.loaders.train.batches_per_epoch * self.settings.eval_every
        return (self.steps - 1) // every - self.progress.step // every + 1

    @property
    def validation_steps(self) -> float:
        """Estimated cost of one validation in training steps, given that a forward pass is about a third of a step."""
        return len(self.loaders.val.split) / self.loaders.train.config.batch_size / 3 if self.loaders.val else 0.0


class Observer(Protocol):
    """The outside world of the training loop: receives its reports and answers whether to stop."""

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """The state is worth saving now; all losses so far were finite."""

    def noted(self, text: str) -> None:
        """A note for the user."""

    def stepped(self) -> None:
        """An optimizer step was done."""

    def stopping(self) -> bool:
        """Whether to stop as soon as possible; asked after every step and every batch of an evaluation."""


class Ending(Enum):
    """Why the loop ended."""

    complete = "complete"
    early = "early"
    interrupted = "interrupted"
