"""Schemas of `train`, `checkpoint`, `launch` and `debug`."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from ..metrics import Goal
from .fields import bounded, path, weights_path
from .monitor import CustomMetric, goal_of, without_alias


class Device(Enum):
    """Which device networks and batches are on."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Accelerate(Enum):
    """Whether layers are computed by faster kernels."""

    auto = "auto"
    off = "off"


@dataclass
class Callback:
    """A user-defined callback: the result of `target(**kwargs)`."""

    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the callable."""


@dataclass
class Train:
    """The training loop."""

    epochs: int = bounded(50, min=0, max=10**9)
    """Passes over the training images; 0: evaluate, compress and export the initial weights."""
    max_steps: Optional[int] = bounded(None, min=1, max=10**12)
    """End after this many optimizer steps, however many epochs that is; schedules end there too."""
    max_minutes: Optional[float] = bounded(None, above=0, max=1e7)
    """End after about this many minutes of training and validation, including those before a resumption, however many
    epochs that is; schedules with an end follow the clock. Computing teachers' logits (`mode.precompute_logits`)
    counts; test and export come after."""
    seed: int = bounded(0, min=0, max=2**32 - 1)
    """Seed of initial weights, order, augmentation and dropout."""
    device: Device = Device.auto
    """auto: the GPU where Paddle has one, else the CPU."""
    accelerate: Accelerate = Accelerate.auto
    """auto: on a CPU, layers are computed by this package's own kernels, equal up to rounding; off: by Paddle's."""
    accumulate: int = bounded(1, min=1)
    """Number of parts in which a batch is computed, one after another, to save memory; the step is that of the whole
    batch."""
    ema: Optional[float] = bounded(None, above=0, below=1)
    """Decay of an exponential moving average of the weights, used for evaluation and export."""
    ema_warmup: bool = True
    """Average over fewer steps at the beginning: the decay after step t is at most (1 + t) / (10 + t)."""
    monitor: str = "val/student/top1"
    """Metric that decides which weights are best: val/<network>/<metric>, or val/<metric> for the student's; of a
    single class val/recall/<class>, val/precision/<class> or val/f1/<class>. With `data.labels=many`, which has no
    top1, the default is average_precision (mAP)."""
    goal: Optional[Goal] = None
    """Whether a higher or a lower monitored metric is better; null: as is usual for that metric."""
    metrics: dict[str, CustomMetric] = field(default_factory=dict)
    """Name → a user-defined metric, computed in addition to the others."""
    patience: Optional[int] = bounded(None, min=1)
    """Stop after this many evaluations without improvement of the monitored metric."""
    min_delta: float = bounded(0.0, min=0)
    """Smallest change of the monitored metric that counts as an improvement."""
    eval_every: int = bounded(1, min=1)
    """Epochs between two evaluations; the last epoch is always evaluated."""
    eval_every_steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps between two evaluations, also within epochs, instead of `eval_every`."""
    log_every: int = bounded(10, min=1)
    """Optimizer steps between two logs of the training metrics."""
    topk: int = bounded(5, min=1)
    """k of top-k accuracy. With fewer than 2k classes chance has half of the images right: it is left out, unless it is
    monitored."""
    threads: Optional[int] = bounded(None, min=1, max=1024)
    """CPU threads of a process; null: all cores, divided among the processes of this machine."""
    sync_batchnorm: bool = False
    """With several processes: batch normalisation, and ranges of activations, see the whole batch, not only a process's
    part."""
    plots: bool = True
    """Draw plots of the result into `plots/`."""
    explain: bool = False
    """Show Grad-CAM maps of the worst mistakes in the report, for the predicted and the true class; `runner explain
    RUN` does it later."""
    callbacks: list[Callback] = field(default_factory=list)
    """User-defined callbacks: `[{target: package.module:callable, kwargs: {}}, …]`, on the command line also
    `[package.module:callable, …]`."""

    @property
    def trains(self) -> bool:
        """Whether there are steps to train."""
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
    """Initial weights of all networks, pruned as they are there: a run (directory or MLflow run id) or a file as for
    `model.weights`, which is the key to start one network from weights of other classes."""
    strict: bool = True
    """Refuse initial weights unless every name and shape matches; false: at least half of the values must."""
    mirror: Optional[str] = None
    """Address of a folder with the files that `model.weights=imagenet` would download from their publishers."""
    every_steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps between two checkpoints within an epoch; null: only at the ends of epochs."""
    every_epochs: int = bounded(1, min=1)
    """Epochs between two checkpoints; the best weights and the last ones are always kept."""
    keep: int = bounded(1, min=0)
    """Older checkpoints that are kept besides the last one and the best one."""


@dataclass
class Launch:
    """How the processes of a run are started."""

    kind: str = "???"
    """Name of the choice; set by it."""
    nproc_per_node: Optional[int] = bounded(None, min=1)
    """Processes on this machine, which share each batch; null: one for each of `devices`, else one."""
    devices: list[int] = field(default_factory=list)
    """Indices of the GPUs to use, one for each process; none: the first ones."""
    timeout_s: float = bounded(1800.0, above=0, max=1e9)
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
    """Shortcuts for debugging a run."""

    fast_dev_run: bool = False
    """Train for two steps only: a warm-up longer than the run is shortened instead of refused."""
    overfit_batches: Optional[int] = bounded(None, min=1)
    """Train and evaluate on the same first n batches, unaugmented, to see whether the network can learn at all."""
    profile: bool = False
    """Write a Chrome trace of ten steps to the run directory."""
