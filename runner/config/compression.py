"""Schema of the group `compression`: pruning and quantization."""

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
    """What `prune.ratio` is a fraction of."""

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
    """How the pruned fraction grows over several cuts."""

    cubic = "cubic"
    linear = "linear"


class Penalty(Enum):
    """How the scales of normalisation layers are pulled to zero."""

    loss = "loss"
    decoupled = "decoupled"


@dataclass
class Pruning:
    """Removal of whole filters of convolutions."""

    criterion: str = "fpgm"
    """Which filters go: fpgm, those that the others replace best; l1_norm or l2_norm, the smallest; bn_scale, those
    with the smallest BatchNorm scale; taylor, those whose removal changes the loss least; or custom."""
    target: Optional[str] = None
    """For `criterion=custom`, `package.module:callable`: NumPy weight [O, C, k, k] to scores [O]; the lowest go."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of that callable."""
    ratio: float = bounded(0.3, min=0, below=1)
    """Fraction that is removed: of the filters, or of what `budget` says."""
    budget: Budget = Budget.filters
    """What `ratio` is a fraction of: filters; macs; params; or latency, as measured on this machine."""
    allocation: Allocation = Allocation.uniform
    """uniform: every layer loses the same fraction; ranking: the lowest scores of all layers go; sensitivity: every
    layer loses as much as costs the same accuracy."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Layer name pattern (`conv1[0-6].*`, as in a shell) → its own ratio; the last matching pattern decides."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers whose filters are not pruned, such as `*.mid_se.*`."""
    channel_multiple: int = bounded(8, min=1)
    """Keep a multiple of this many channels: engines compute channels in blocks, and odd numbers slowly."""
    sensitivity_images: int = bounded(256, min=1)
    """Images on which `allocation=sensitivity` measures the headline metric (top-1, or mAP if multi-label): validation
    images, or training images without a validation split."""
    batches: int = bounded(16, min=1)
    """Training batches over which `criterion=taylor` accumulates gradients."""
    begin_epoch: Optional[int] = bounded(None, min=1)
    """Epoch before which the first cut is made, counted from 0; null: everything is pruned before training."""
    parts: int = bounded(1, min=1)
    """Number of cuts, from `begin_epoch` on."""
    every_epochs: int = bounded(1, min=1)
    """Epochs between two cuts."""
    growth: Growth = Growth.cubic
    """How the removed fraction grows over the cuts: cubic, most at first (Zhu & Gupta, 2017); or linear."""
    sparsity: float = bounded(0.0, min=0)
    """Weight of the L1 norm of all BatchNorm scales, until the last cut (Liu et al., Network Slimming, ICCV 2017)."""
    penalty: Penalty = Penalty.loss
    """loss: that norm is a term of the loss; decoupled: after each step all scales shrink by learning rate ×
    sparsity."""


@dataclass
class Quantization:
    """8-bit (or narrower) integers for weights and inputs of layers, with fake quantization during training."""

    weight_bits: int = bounded(8, min=2, max=8)
    """Bits of a weight; an upper limit with `average_weight_bits`."""
    layer_bits: dict[str, int] = field(default_factory=dict)
    """Layer name pattern (`conv1.*`, as in a shell) → bits of its weight; the last matching pattern decides."""
    average_weight_bits: Optional[float] = bounded(None, min=2, max=8)
    """Bits of a weight averaged over all weights: a sensitivity analysis decides how many each layer gets."""
    sensitivity_images: int = bounded(64, min=1)
    """Training images on which this analysis compares logits."""
    activation_bits: int = bounded(8, min=2, max=8)
    """Bits of an activation."""
    weight_scheme: WeightScheme = WeightScheme.channel_wise_abs_max
    """channel_wise_abs_max: each output channel has its own range; abs_max: one range for the layer."""
    layers: list[LayerType] = field(default_factory=lambda: [LayerType.Conv2D, LayerType.Linear])
    """Types of layers that are quantized."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers that stay float, such as `conv1.*` or `out`."""
    calibration_batches: int = bounded(8, min=1)
    """Training batches on which the ranges (for QAT: the initial ones) are measured."""


@dataclass
class Pact:
    """A learnt clip of activations: y = min(max(x, -α), α) (Choi et al., 2018)."""

    enabled: bool = True
    """Whether activations are clipped before they are quantized."""
    initial_alpha: Optional[float] = bounded(None, above=0)
    """Initial value of every α; null: the layer's largest activation in calibration, or 20 with random weights."""
    lr_factor: float = bounded(1.0, min=0)
    """Learning rate of α as a multiple of the weights'."""
    weight_decay: float = bounded(2e-5, min=0)
    """L2 decay of α, which shrinks it unless gradients need it."""


@dataclass
class TrainedQuantization(Quantization):
    """Quantization-aware training (Jacob et al., CVPR 2018)."""

    moving_rate: float = bounded(0.9, min=0, below=1)
    """Momentum of the moving average of a range: the fraction of its value that it keeps in a step."""
    pact: Pact = field(default_factory=Pact)
    """A learnt clip of activations."""


@dataclass
class LearntQuantization(Quantization):
    """Learned Step Size Quantization (Esser et al., ICLR 2020): training learns the ranges of weights and inputs."""

    lr_factor: float = bounded(0.1, min=0)
    """Learning rate of the ranges as a multiple of the weights'; at 1 momentum may carry them too far."""


@dataclass
class AdaRound:
    """Rounding each weight up or down as suits the layer's output, not to nearest (Nagel et al., ICML 2020)."""

    enabled: bool = False
    """Whether to optimize the rounding, layer by layer, on 256 training images."""
    iterations: int = bounded(300, min=1)
    """Iterations of Adam for each layer."""
    lr: float = bounded(0.01, above=0)
    """Their learning rate."""
    regularization: float = bounded(0.01, min=0)
    """Weight λ of the term that pushes each rounding to 0 or 1."""
    rows: int = bounded(4096, min=32)
    """Output positions, drawn from all of these images, that a layer is fitted to."""


@dataclass
class CalibratedQuantization(Quantization):
    """Post-training quantization: the ranges are measured after training."""

    algorithm: Algorithm = Algorithm.hist
    """abs_max: the largest value; hist: a percentile of the magnitudes; kl: least Kullback-Leibler divergence;
    mse: least mean squared error of rounding."""
    percentile: float = bounded(0.9999, above=0, below=1)
    """Fraction of the magnitudes, zeros left out, that is within the range; for `hist`."""
    weight_range: WeightRange = WeightRange.abs_max
    """abs_max: the largest weight; mse: least mean squared error of rounding, which clips the largest ones."""
    bias_correction: bool = False
    """Correct the mean of each output channel to that of the float network (Nagel et al., ICCV 2019)."""
    adaround: AdaRound = field(default_factory=AdaRound)
    """How weights are rounded, if not to nearest."""

    @property
    def compares(self) -> bool:
        """Whether single layers are compared with those of the float network."""
        return self.bias_correction or self.adaround.enabled

    @property
    def keeps_weight_ranges(self) -> bool:
        """Whether ranges of weights differ from their largest magnitudes, and so have to be stored."""
        return self.weight_range is not WeightRange.abs_max or self.adaround.enabled


@dataclass
class Compression:
    """How the trained networks are compressed."""

    kind: str = "???"
    """Name of the choice; set by it."""
    prune: Optional[Pruning] = None
    """How networks are pruned, before or during training."""
    quantize: Optional[Quantization] = None
    """How networks are quantized."""


@dataclass
class NoCompression(Compression):
    """No compression."""

    kind: str = "none"


@dataclass
class Fpgm(Compression):
    """Prune before or during training."""

    kind: str = "fpgm"
    prune: Pruning = field(default_factory=Pruning)
    """How networks are pruned, before or during training."""


@dataclass
class Qat(Compression):
    """Train with fake quantization."""

    kind: str = "qat"
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """How networks are quantized."""


@dataclass
class Lsq(Compression):
    """Train with fake quantization whose ranges are learnt."""

    kind: str = "lsq"
    quantize: LearntQuantization = field(default_factory=LearntQuantization)
    """How networks are quantized."""


@dataclass
class FpgmQat(Compression):
    """Prune, then train with fake quantization."""

    kind: str = "fpgm_qat"
    prune: Pruning = field(default_factory=Pruning)
    """How networks are pruned, before or during training."""
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """How networks are quantized."""


@dataclass
class Ptq(Compression):
    """Train in float, and quantize the best weights after training."""

    kind: str = "ptq"
    quantize: CalibratedQuantization = field(default_factory=CalibratedQuantization)
    """How networks are quantized."""
