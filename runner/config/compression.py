"""Schema of the group `compression`: how networks are made smaller."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded


class LayerType(Enum):
    """Layers that can be quantized."""

    Conv2D = "Conv2D"
    Linear = "Linear"


class WeightScheme(Enum):
    """Which weights share a range."""

    channel_wise_abs_max = "channel_wise_abs_max"
    abs_max = "abs_max"


class ActivationScheme(Enum):
    """How the ranges of activations follow the batches of training."""

    moving_average_abs_max = "moving_average_abs_max"


class Algorithm(Enum):
    """How calibration chooses a range from the activations it saw."""

    abs_max = "abs_max"
    hist = "hist"
    kl = "kl"
    mse = "mse"


class WeightRange(Enum):
    """How calibration chooses the range of a weight."""

    abs_max = "abs_max"
    mse = "mse"


class Budget(Enum):
    """What `prune.ratio` is a part of."""

    filters = "filters"
    macs = "macs"
    params = "params"
    latency = "latency"


class Allocation(Enum):
    """How pruning is divided among the layers."""

    uniform = "uniform"
    ranking = "ranking"
    sensitivity = "sensitivity"


class Growth(Enum):
    """How the pruned part grows with the cuts."""

    cubic = "cubic"
    linear = "linear"


class Penalty(Enum):
    """How the scales of normalisation layers are drawn to zero."""

    loss = "loss"
    decoupled = "decoupled"


@dataclass
class Pruning:
    """Removal of whole filters of convolutions."""

    criterion: str = "fpgm"
    """Which filters go: fpgm, those that the others replace best; l1_norm or l2_norm, the smallest; bn_scale, those
    that BatchNorm scales down; taylor, those whose removal changes the loss least; or custom."""
    target: Optional[str] = None
    """For `criterion=custom`, `package.module:callable`: NumPy weight [O, C, k, k] to scores [O]; the lowest go."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of that callable."""
    ratio: float = bounded(0.3, min=0, below=1)
    """Part that is removed: of the filters, or of what `budget` says."""
    budget: Budget = Budget.filters
    """What `ratio` is a part of: filters; macs; params; or latency, as this machine measures it."""
    allocation: Allocation = Allocation.uniform
    """uniform: every layer loses the same part; ranking: the lowest scores of all layers go; sensitivity: every layer
    loses as much as costs the same accuracy."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Layer name pattern (`conv1[0-6].*`, as in a shell) → ratio of its own; the last pattern that matches decides."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers that keep all filters of their own, such as `*.mid_se.*`."""
    channel_multiple: int = bounded(8, min=1)
    """Channels that are left are a multiple of this: engines compute them in blocks, odd numbers of them slowly."""
    sensitivity_images: int = bounded(256, min=1)
    """Validation images that `allocation=sensitivity` measures accuracy on."""
    batches: int = bounded(16, min=1)
    """Training batches that `criterion=taylor` accumulates gradients over."""
    begin_epoch: Optional[int] = bounded(None, min=1)
    """Epoch before which the first cut is made, counted from 0; null: all is cut before training."""
    parts: int = bounded(1, min=1)
    """Number of cuts, from `begin_epoch` on."""
    every_epochs: int = bounded(1, min=1)
    """Epochs between two cuts."""
    growth: Growth = Growth.cubic
    """How the removed part grows with the cuts: cubic, most at first (Zhu & Gupta, 2017); or linear."""
    sparsity: float = bounded(0.0, min=0)
    """Weight of the L1 norm of all BatchNorm scales, until the last cut (Liu et al., Network Slimming, ICCV 2017)."""
    penalty: Penalty = Penalty.loss
    """loss: that norm is a term of the loss; decoupled: after a step all scales shrink by learning rate × sparsity."""


@dataclass
class Quantization:
    """8-bit (or narrower) integers for weights and inputs of layers, simulated in float while training."""

    weight_bits: int = bounded(8, min=2, max=8)
    """Bits of a weight; those of `average_weight_bits` are at most as many."""
    layer_bits: dict[str, int] = field(default_factory=dict)
    """Layer name pattern (`conv1.*`, as in a shell) → bits of its weight; the last pattern that matches decides."""
    average_weight_bits: Optional[float] = bounded(None, min=2, max=8)
    """Bits of a weight as the mean over all: each layer then has as many as it needs, by a sensitivity analysis."""
    sensitivity_images: int = bounded(64, min=1)
    """Training images that this analysis compares logits on."""
    activation_bits: int = bounded(8, min=2, max=8)
    """Bits of an activation."""
    weight_scheme: WeightScheme = WeightScheme.channel_wise_abs_max
    """channel_wise_abs_max: each output channel has a range of its own; abs_max: one for the layer."""
    layers: list[LayerType] = field(default_factory=lambda: [LayerType.Conv2D, LayerType.Linear])
    """Kinds of layers that are quantized."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers that stay float, such as `conv1.*` or `out`."""
    calibration_batches: int = bounded(8, min=1)
    """Training batches that the ranges (QAT: those it begins with) are measured on."""


@dataclass
class Pact:
    """A learnt clip of activations: y = min(max(x, -α), α) (Choi et al., 2018)."""

    enabled: bool = True
    """Whether activations are clipped before they are quantized."""
    initial_alpha: Optional[float] = bounded(None, above=0)
    """First value of every α; null: the layer's largest activation in calibration, or 20 before random weights."""
    lr_factor: float = bounded(1.0, min=0)
    """α's learning rate as a multiple of the weights'."""
    weight_decay: float = bounded(2e-5, min=0)
    """L2 decay of α, which shrinks what no gradient needs."""


@dataclass
class TrainedQuantization(Quantization):
    """Quantization-aware training (Jacob et al., CVPR 2018)."""

    activation_scheme: ActivationScheme = ActivationScheme.moving_average_abs_max
    """How the ranges of activations follow the batches."""
    moving_rate: float = bounded(0.9, min=0, below=1)
    """Part of its value that the moving average of a range keeps at a step."""
    pact: Pact = field(default_factory=Pact)
    """A learnt clip of activations."""


@dataclass
class LearntQuantization(Quantization):
    """Learned Step Size Quantization (Esser et al., ICLR 2020): training learns the ranges of weights and inputs."""

    lr_factor: float = bounded(0.1, min=0)
    """Learning rate of the ranges as a multiple of the weights'; at 1 momentum may carry them too far."""


@dataclass
class AdaRound:
    """Rounding each weight up or down as suits the layer's output (Nagel et al., ICML 2020), not to the nearest."""

    enabled: bool = False
    """Whether it is done, layer by layer, on the images of calibration."""
    iterations: int = bounded(300, min=1)
    """Steps of Adam for each layer."""
    lr: float = bounded(0.01, above=0)
    """Their learning rate."""
    regularization: float = bounded(0.01, min=0)
    """Weight λ of the term that makes a rounding decide."""
    rows: int = bounded(4096, min=32)
    """Places of outputs, drawn from all calibration images, that a layer is fitted to."""


@dataclass
class CalibratedQuantization(Quantization):
    """Post-training quantization: the ranges are measured once training is over."""

    algorithm: Algorithm = Algorithm.hist
    """abs_max: the largest value; hist: a percentile of the magnitudes; kl: least Kullback-Leibler divergence;
    mse: least mean squared error of rounding."""
    percentile: float = bounded(0.9999, above=0, below=1)
    """Part of the magnitudes that lies within the range; for `hist`."""
    weight_range: WeightRange = WeightRange.abs_max
    """abs_max: the largest weight; mse: least mean squared error of rounding, which clips the largest ones."""
    bias_correction: bool = False
    """Whether the mean of each output channel becomes that of the float network again (Nagel et al., ICCV 2019)."""
    adaround: AdaRound = field(default_factory=AdaRound)
    """How weights are rounded, if not to the nearest."""

    @property
    def compares(self) -> bool:
        """Whether single layers are compared with those of the float network."""
        return self.bias_correction or self.adaround.enabled

    @property
    def keeps_weight_ranges(self) -> bool:
        """Whether ranges of weights are other than their largest magnitudes, and so part of the state."""
        return self.weight_range is not WeightRange.abs_max or self.adaround.enabled


@dataclass
class Compression:
    """How the trained networks are made smaller."""

    kind: str = "???"
    """What the choice is; set by it."""
    prune: Optional[Pruning] = None
    """What is cut off before or while training."""
    quantize: Optional[Quantization] = None
    """What becomes integers."""


@dataclass
class NoCompression(Compression):
    """The networks as they are."""

    kind: str = "none"


@dataclass
class Fpgm(Compression):
    """Prune before or while training."""

    kind: str = "fpgm"
    prune: Pruning = field(default_factory=Pruning)
    """What is cut off before or while training."""


@dataclass
class Qat(Compression):
    """Train with simulated quantization."""

    kind: str = "qat"
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """What becomes integers."""


@dataclass
class Lsq(Compression):
    """Train with simulated quantization whose ranges are learnt."""

    kind: str = "lsq"
    quantize: LearntQuantization = field(default_factory=LearntQuantization)
    """What becomes integers."""


@dataclass
class FpgmQat(Compression):
    """Prune, then train with simulated quantization."""

    kind: str = "fpgm_qat"
    prune: Pruning = field(default_factory=Pruning)
    """What is cut off before or while training."""
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """What becomes integers."""


@dataclass
class Ptq(Compression):
    """Train in float, quantize the best weights at the end."""

    kind: str = "ptq"
    quantize: CalibratedQuantization = field(default_factory=CalibratedQuantization)
    """What becomes integers."""
