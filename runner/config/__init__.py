"""The schema of a run: plain dataclasses, one for each choice of each config group.

A group is a base class, a choice a subclass whose `kind` names it. `conf/` holds the values, `rules` checks what must
hold between fields, `store` writes a config to a run directory and reads it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

from ..metrics import MANY, Metric
from .augment import Augment, Policy
from .compression import (
    AdaRound,
    Algorithm,
    Allocation,
    Budget,
    CalibratedQuantization,
    Compression,
    Fpgm,
    FpgmQat,
    Growth,
    LayerType,
    LearntQuantization,
    Lsq,
    NoCompression,
    Pact,
    Penalty,
    Pruning,
    Ptq,
    Qat,
    Quantization,
    TrainedQuantization,
    WeightRange,
    WeightScheme,
)
from .data import (
    Cache,
    Check,
    Cifar10,
    Cifar100,
    CustomData,
    Data,
    Digits,
    FashionMnist,
    FileList,
    Files,
    ImageFolder,
    Labels,
    Mnist,
    OnError,
    Pictures,
    Resize,
    Sampler,
    Shards,
    Synthetic,
)
from .deploy import Deploy, Format, Precision, Preprocess
from .distillation import (
    Also,
    AttentionTransfer,
    CustomFeatureLoss,
    CustomMimic,
    Dist,
    Divergence,
    Dkd,
    Dml,
    FeatureLoss,
    Hint,
    JsOriginal,
    Kd,
    Kl,
    Mimic,
    Ramp,
    Reduction,
    Rkd,
    RkdFeatures,
    choosing,
)
from .losses import (
    Asl,
    Bce,
    CrossEntropy,
    CustomLoss,
    Focal,
    LabelSmoothing,
    LogitAdjustment,
    Loss,
    WeightedLoss,
)
from .mode import (
    Cls,
    ClsDistill,
    ClsDistillMultiopt,
    ClsTeacher,
    Mode,
    Teacher,
    key_of_teacher,
)
from .model import (
    ARCHITECTURES,
    DEPTHS,
    PUBLISHED,
    CustomModel,
    EfficientNetLite,
    MobileNetV3,
    Model,
    PaddleClas,
    ResNet,
    Siamese,
    Size,
    Stem,
    Vision,
    choice_name,
    model_choice,
    model_name,
)
from .monitor import metrics_of
from .optimization import (
    AdamW,
    Amp,
    AmpOff,
    Bf16,
    Constant,
    Cosine,
    CosineRestarts,
    CosineWarmup,
    CustomOptimizer,
    CustomSchedule,
    Decay,
    Exempt,
    ExponentialWarmup,
    Fp16,
    Lamb,
    Level,
    Momentum,
    OneCycle,
    Optimizer,
    Piecewise,
    Plateau,
    Polynomial,
    RMSProp,
    Schedule,
    Sgd,
)
from .run import Accelerate, Callback, Checkpoint, Cluster, CustomMetric, Debug, Device, Goal, Launch, Local, Train
from .sweep import Cost, Optuna, Parameter, Pruner, SearchSampler, Sweep
from .tracking import Csv, CustomTracker, Mlflow, TensorBoard, Tracker, Tracking, Upload


@dataclass
class Config:
    """Everything that decides what a run does."""

    name: str = "default"
    """Name of the experiment: its folder in `outputs/` and its experiment in MLflow."""
    model: Model = field(default_factory=Model)
    """The network."""
    data: Data = field(default_factory=Data)
    """The images."""
    augment: Augment = field(default_factory=Augment)
    """Random changes to training images."""
    mode: Mode = field(default_factory=Mode)
    """Which networks exist and what each optimizer minimises."""
    loss: Loss = field(default_factory=Loss)
    """Loss of logits against labels."""
    mimic: Optional[Mimic] = None
    """Distillation loss between a network's logits and its peer's; set by the distilling modes."""
    features: Optional[FeatureLoss] = None
    """Distillation loss between layers of a network and of its peer; with the distilling modes, in addition to
    `mimic`."""
    also: Also = field(default_factory=Also)
    """Further distillation losses."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """How gradients change weights."""
    schedule: Schedule = field(default_factory=Schedule)
    """How the learning rate changes over the steps."""
    amp: Amp = field(default_factory=Amp)
    """Mixed precision."""
    compression: Compression = field(default_factory=Compression)
    """How the networks are compressed."""
    train: Train = field(default_factory=Train)
    """The training loop."""
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """Which state is kept and where a run starts from."""
    deploy: Deploy = field(default_factory=Deploy)
    """How the best weights are exported at the end of a run."""
    sweep: Sweep = field(default_factory=Sweep)
    """What `-m` does with jobs that have run before, and how it chooses jobs."""
    tracking: Tracking = field(default_factory=Tracking)
    """Where runs are compared."""
    launch: Launch = field(default_factory=Launch)
    """How the processes are started."""
    debug: Debug = field(default_factory=Debug)
    """Shortcuts for debugging a run."""

    @property
    def mimics(self) -> dict[str, Mimic]:
        """Key → settings of every distillation loss between logits."""
        further = {f"also.mimic.{name}": one for name, one in self.also.mimic.items()}
        return {"mimic": self.mimic, **further} if self.mimic else further

    @property
    def feature_losses(self) -> dict[str, FeatureLoss]:
        """Key → settings of every distillation loss between features."""
        further = {f"also.features.{name}": one for name, one in self.also.features.items()}
        return {"features": self.features, **further} if self.features else further

    @property
    def peer_losses(self) -> dict[str, Mimic | FeatureLoss]:
        """Key → settings of every distillation loss: those between logits, then those between features."""
        return {**self.mimics, **self.feature_losses}

    def metrics(self, classes: Sequence[str] = ()) -> list[Metric]:
        """The metrics that its runs compute. `classes`: their names, where they are computed. Errors: ConfigError."""
        return metrics_of(self.train.metrics, self.data.many, self.train.monitor, classes)

    def __post_init__(self) -> None:
        self.train = suited_to_labels(self.train, self.data.labels)


def suited_to_labels(train: Train, labels: Labels) -> Train:
    """The settings with the monitor of these labels in place of the usual one: mAP of images with many labels."""
    if labels is not Labels.many or train.monitor != Train.monitor:
        return train
    # `max`, the goal of the usual monitor, becomes null, that of mAP; `min` stays, to be refused.
    goal = train.goal if train.goal is Goal.min else None
    return replace(train, monitor=f"val/student/{MANY[0].name}", goal=goal)


#: Group → its choices' dataclasses. Hydra's store, the reader of run directories and the documentation use this.
GROUPS: dict[str, tuple[type, ...]] = {
    "model": (MobileNetV3, Siamese, ResNet, EfficientNetLite, Vision, PaddleClas, CustomModel),
    "data": (Digits, Cifar10, Cifar100, Mnist, FashionMnist, ImageFolder, FileList, Shards, Synthetic, CustomData),
    "mode": (Cls, ClsDistill, ClsDistillMultiopt, ClsTeacher),
    "loss": (CrossEntropy, LabelSmoothing, Focal, LogitAdjustment, Bce, Asl, CustomLoss),
    "mimic": (Dml, JsOriginal, Kl, Kd, Dkd, Dist, Rkd, CustomMimic),
    "features": (AttentionTransfer, Hint, RkdFeatures, CustomFeatureLoss),
    "optimizer": (Momentum, RMSProp, Sgd, AdamW, Lamb, CustomOptimizer),
    "schedule": (
        Constant,
        Cosine,
        CosineWarmup,
        CosineRestarts,
        Polynomial,
        OneCycle,
        Plateau,
        Piecewise,
        ExponentialWarmup,
        CustomSchedule,
    ),
    "amp": (AmpOff, Fp16, Bf16),
    "compression": (NoCompression, Qat, Lsq, Fpgm, FpgmQat, Ptq),
    "tracking": (Mlflow, Tracking),
    "tracker": (Csv, TensorBoard, CustomTracker),
    "launch": (Local, Cluster),
}

#: Environment variables that MLflow would follow but a run ignores → the key to use instead, and its default.
VARIABLES = {"MLFLOW_TRACKING_URI": ("tracking.uri", Mlflow.uri), "MLFLOW_EXPERIMENT_NAME": ("name", Config.name)}


def model_of(config: Config, network: str) -> Model:
    """The architecture of a trained network."""
    return architecture(config.model, config.mode, network)


def architecture(model: Model, mode: Mode, network: str) -> Model:
    """`model_of`, from the groups of a config that it depends on."""
    peer = mode.peer if isinstance(mode, ClsDistill) and network != "student" else None
    return peer or model
