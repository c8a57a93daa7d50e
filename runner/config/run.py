"""Schemas of `train`, `checkpoint`, `launch` and `debug`."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from ..metrics import Goal
from .fields import bounded, path, weights_path
from .monitor import CustomMetric, goal_of, without_alias


class Device(Enum):
    """Where networks and batches live."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Accelerate(Enum):
    """Whether layers are computed in a faster way."""

    auto = "auto"
    off = "off"


@dataclass
class Callback:
    """An object of the user's that is told how training goes: what `target(**kwargs)` returns."""

    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""


@dataclass
class Train:
    """The training loop."""

    epochs: int = bounded(50, min=0)
    """Times every training image is seen; 0: evaluate, compress and export the initial weights."""
    max_steps: Optional[int] = bounded(None, min=1)
    """End after so many optimizer steps, however many epochs that is; schedules end there too."""
    max_minutes: Optional[float] = bounded(None, above=0)
    """End after about so many minutes of training and validation, those before a resumption included, however many
    epochs that is; schedules that end with the run follow the clock. Test and export come after."""
    seed: int = bounded(0, min=0, max=2**32 - 1)
    """Seed of initial weights, order, augmentation and dropout."""
    device: Device = Device.auto
    """auto: the GPU where Paddle has one, else the CPU."""
    accelerate: Accelerate = Accelerate.auto
    """auto: on a CPU, layers are computed by this package's own kernels, equal up to rounding; off: by Paddle's."""
    accumulate: int = bounded(1, min=1)
    """Parts a batch is computed in, one after another, to save memory; the step stays that of the whole batch."""
    ema: Optional[float] = bounded(None, above=0, below=1)
    """Decay of an exponential moving average of the weights, used for evaluation and export."""
    ema_warmup: bool = True
    """Average over less at the beginning: the decay behind step t is at most (1 + t) / (10 + t)."""
    monitor: str = "val/student/top1"
    """Metric that decides which weights are the best: val/<network>/<metric>, or val/<metric> for the student's. With
    `data.labels=many`, where there is no top1, it is average_precision (mAP) by default."""
    goal: Optional[Goal] = None
    """Whether the monitored metric should rise or fall; null: as it is with that metric."""
    metrics: dict[str, CustomMetric] = field(default_factory=dict)
    """Name → a metric of one's own, computed beside the others."""
    patience: Optional[int] = bounded(None, min=1)
    """Stop after so many evaluations without a better monitored metric."""
    min_delta: float = bounded(0.0, min=0)
    """Smallest change of the monitored metric that counts as better."""
    eval_every: int = bounded(1, min=1)
    """Epochs between two evaluations; the last epoch is always evaluated."""
    eval_every_steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps between two evaluations, within epochs as well, in place of `eval_every`."""
    log_every: int = bounded(10, min=1)
    """Optimizer steps between two readings of the training metrics."""
    topk: int = bounded(5, min=1)
    """k of the second accuracy; always less than there are classes, among all of which every image has its own."""
    threads: Optional[int] = bounded(None, min=1, max=1024)
    """CPU threads of a process; null: all cores, divided by the processes of this machine."""
    sync_batchnorm: bool = False
    """Several processes: batch normalisation, and ranges of activations, see the whole batch, not their part of it."""
    plots: bool = True
    """Draw pictures of the result into `plots/`."""
    explain: bool = False
    """Show in the report where in the worst mistakes the evidence was for what they were taken for, and for what they
    are, by Grad-CAM; `runner explain RUN` does it later."""
    callbacks: list[Callback] = field(default_factory=list)
    """Objects of yours that are told how training goes: `[{target: package.module:callable, kwargs: {}}, …]`."""

    @property
    def trains(self) -> bool:
        """Whether there is a step to be done."""
        return bool(self.epochs or self.max_steps or self.max_minutes)

    def __post_init__(self) -> None:
        self.monitor = without_alias(self.monitor, self.metrics)
        self.goal = goal_of(self.monitor, self.goal, self.metrics)


@dataclass
class Checkpoint:
    """Which state is kept on disk and where a run starts from."""

    resume: str = path("never")
    """auto: continue the run of this directory, if any. RUN (directory or MLflow run id): start from its state."""
    init_from: Optional[str] = weights_path(None)
    """Initial weights of all networks, with what was pruned: a run (directory or MLflow run id) or a file as for
    `model.weights`, which begins one network with weights for other classes."""
    strict: bool = True
    """Refuse initial weights that do not match in every name and shape; false: at least half of the numbers must."""
    mirror: Optional[str] = None
    """Address of a folder with the files that `model.weights=imagenet` would download from their publishers."""
    every_steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps between two checkpoints within an epoch; null: only at ends of epochs."""
    every_epochs: int = bounded(1, min=1)
    """Epochs between two checkpoints; the best weights and the last ones are always kept."""
    keep: int = bounded(1, min=0)
    """Older checkpoints that stay besides the last one and the best one."""


@dataclass
class Launch:
    """How the processes of a run are started."""

    kind: str = "???"
    """What the choice is; set by it."""
    nproc_per_node: Optional[int] = bounded(None, min=1)
    """Processes on this machine, which share each batch; null: one for each of `devices`, else one."""
    devices: list[int] = field(default_factory=list)
    """Numbers of the GPUs to use, one a process; none: the first ones."""
    timeout_s: float = bounded(1800.0, above=0)
    """Seconds without a finished step after which the processes count as stalled and are ended."""
    max_restarts: int = bounded(0, min=0)
    """How often a run that lost a process starts again from its last checkpoint."""

    @property
    def processes(self) -> int:
        """Processes on this machine."""
        return self.nproc_per_node or len(self.devices) or 1


@dataclass
class Local(Launch):
    """On this machine."""

    kind: str = "local"
    inline: bool = False
    """Train inside the command's own process, for a debugger."""


@dataclass
class Cluster(Launch):
    """On several machines, by one command on each of them."""

    kind: str = "cluster"
    nnodes: int = bounded(1, min=1)
    """Number of machines."""
    master: Optional[str] = None
    """HOST:PORT of the first machine, where the others find it; any free port."""
    rank: Optional[int] = bounded(None, min=0)
    """Number of this machine, from 0; null: print the command of each of them."""


@dataclass
class Debug:
    """Shortcuts for looking into a run."""

    fast_dev_run: bool = False
    """Two steps only: a warm-up longer than the run is cut short instead of refused."""
    overfit_batches: Optional[int] = bounded(None, min=1)
    """Train and evaluate on the same first n batches, unaugmented, to see whether the network can learn at all."""
    profile: bool = False
    """Write a Chrome trace of ten steps to the run directory."""
