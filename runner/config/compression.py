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


@dataclass
class Pruning:
    """Removal of whole filters of convolutions."""

    criterion: str = "fpgm"
    """Which filters go: fpgm, those that the others replace best; l1_norm or l2_norm, the smallest; or custom."""
    target: Optional[str] = None
    """For `criterion=custom`, `package.module:callable`: NumPy weight [O, C, k, k] to scores [O]; the lowest go."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of that callable."""
    ratio: float = bounded(0.3, min=0, below=1)
    """Part of the filters that every convolution loses."""
    ratios: dict[str, float] = field(default_factory=dict)
    """Layer name pattern (`conv1[0-6].*`, as in a shell) → ratio of its own; the last pattern that matches decides."""
    skip: list[str] = field(default_factory=list)
    """Patterns of layers that keep all filters of their own, such as `*.mid_se.*`."""
    channel_multiple: int = bounded(8, min=1)
    """Channels that are left are a multiple of this: engines compute them in blocks, odd numbers of them slowly."""
    macs_reduction: Optional[float] = bounded(None, above=0, below=1)
    """Part of all MACs to remove; each layer's ratio then comes from a sensitivity analysis, not from `ratio`."""
    sensitivity_images: int = bounded(256, min=1)
    """Validation images the sensitivity analysis measures accuracy on."""


@dataclass
class Quantization:
    """8-bit (or narrower) integers for weights and inputs of layers, simulated in float while training."""

    weight_bits: int = bounded(8, min=2, max=8)
    """Bits of a weight."""
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
class CalibratedQuantization(Quantization):
    """Post-training quantization: the ranges are measured once training is over."""

    algorithm: Algorithm = Algorithm.hist
    """abs_max: the largest value; hist: a percentile of the magnitudes; kl: least Kullback-Leibler divergence."""
    percentile: float = bounded(0.9999, above=0, below=1)
    """Part of the magnitudes that lies within the range; for `hist`."""


@dataclass
class Compression:
    """How the trained networks are made smaller."""

    kind: str = "???"
    """What the choice is; set by it."""
    prune: Optional[Pruning] = None
    """What is cut off before training."""
    quantize: Optional[Quantization] = None
    """What becomes integers."""


@dataclass
class NoCompression(Compression):
    """The networks as they are."""

    kind: str = "none"


@dataclass
class Fpgm(Compression):
    """Prune, then train."""

    kind: str = "fpgm"
    prune: Pruning = field(default_factory=Pruning)
    """What is cut off before training."""


@dataclass
class Qat(Compression):
    """Train with simulated quantization."""

    kind: str = "qat"
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """What becomes integers."""


@dataclass
class FpgmQat(Compression):
    """Prune, then train with simulated quantization."""

    kind: str = "fpgm_qat"
    prune: Pruning = field(default_factory=Pruning)
    """What is cut off before training."""
    quantize: TrainedQuantization = field(default_factory=TrainedQuantization)
    """What becomes integers."""


@dataclass
class Ptq(Compression):
    """Train in float, quantize the best weights at the end."""

    kind: str = "ptq"
    quantize: CalibratedQuantization = field(default_factory=CalibratedQuantization)
    """What becomes integers."""
