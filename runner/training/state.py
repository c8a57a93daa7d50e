"""What the training loop works on, and whom it tells."""

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
from .pruning import GradualPruning


class Unread(TypedDict, total=False):
    """Readings of steps that were not logged yet."""

    names: list[str]
    rates: list[float]
    values: list[list[float]]
    images: int
    counts: list[float]
    fresh: int


@dataclass
class Progress:
    """How far a run is; all that a checkpoint must say about it beside weights and generators."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    batch: int = 0
    """Batches done of the epoch that is under way."""
    best: float | None = None
    """Best monitored metric so far."""
    best_step: int = 0
    """Step it was measured after."""
    waited: int = 0
    """Evaluations since the monitored metric last rose (or fell) by more than `min_delta`."""
    settled: int = 0
    """Step at which training last paused for an evaluation, the end of an epoch, or of the run."""
    scores: list[float] = field(default_factory=list)
    """The monitored metric of every validation, with its sign changed where a lower one is better."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network → of many labels the thresholds that suit the last validation."""
    validation_s: float = 0.0
    """Seconds of the last validation, where the run ends by the clock."""
    unread: Unread = field(default_factory=Unread)
    """Readings of the steps since the metrics were last logged."""

    @property
    def epochs_begun(self) -> int:
        """Number of the epoch that is under way or has just ended, from 1."""
        return self.epoch + (self.batch > 0)


@dataclass
class Training:
    """Everything the loop needs."""

    networks: Networks
    mode: Mode
    optimizations: list[Optimization]
    precision: Precision
    loaders: Loaders
    settings: Train
    checkpoints: Checkpoint
    steps: int
    """Optimizer steps of the whole run; by the clock an estimate, until it ends."""
    k: int
    """k of the second accuracy."""
    metrics: Sequence[Metric] = field(default_factory=lambda: METRICS)
    """What an evaluation computes."""
    ema: Ema | None = None
    average: Ema | None = None
    """The student's average that teaches it, in the weights of a frozen network."""
    clock: Clock | None = None
    """Where the run ends by the clock."""
    pruner: GradualPruning | None = None
    """What cuts the networks between epochs."""
    freezing: Freezing = field(init=False)
    """What does not train; by default nothing."""
    shard: Shard = field(default_factory=lambda: Shard(Ranks()))
    """What this process computes of a batch."""
    replicas: Replicas = field(init=False)
    """The networks as they are trained, and what the processes tell each other."""
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.replicas = Replicas(self.networks)
        self.freezing = Freezing(self.networks)

    @property
    def compares(self) -> bool:
        """Whether evaluations count for the best weights: not before the last cut, while networks are too large."""
        return self.pruner is None or self.pruner.is_complete

    @property
    def ranks(self) -> Ranks:
        """This process among those of the run."""
        return self.shard.ranks

    def follow(self) -> None:
        """Give every optimizer the learning rate of its next step, whose schedule may follow clock and validations."""
        for optimization in self.optimizations:
            optimization.schedule.follow(self.steps, self.progress.scores)

    @property
    def validations_left(self) -> int:
        """How often the validation split will still be seen."""
        if self.loaders.val is None:
            return 0
        every = self.settings.eval_every_steps
        every = every or self.loaders.train.batches_per_epoch * self.settings.eval_every
        return (self.steps - 1) // every - self.progress.step // every + 1

    @property
    def validation_steps(self) -> float:
        """About what one validation takes, in steps: of those its forward passes are a third."""
        return len(self.loaders.val.split) / self.loaders.train.config.batch_size / 3 if self.loaders.val else 0.0


class Observer(Protocol):
    """What the loop tells and asks the outside."""

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """A moment at which the state is worth keeping; all losses so far were finite."""

    def noted(self, text: str) -> None:
        """What a person should know."""

    def stepped(self) -> None:
        """An optimizer step was done."""

    def stopping(self) -> bool:
        """Whether to end as soon as possible; asked after every step and every batch of an evaluation."""


class Ending(Enum):
    """Why the loop ended."""

    complete = "complete"
    early = "early"
    interrupted = "interrupted"
