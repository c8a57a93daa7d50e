"""Schemas of the groups `optimizer`, `schedule` and `amp`."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded


class Decay(Enum):
    """Norm whose gradient is added to that of a weight."""

    l1 = "l1"
    l2 = "l2"


class Exempt(Enum):
    """Parameters that are exempt from weight decay."""

    norms_and_biases = "norms_and_biases"
    norms = "norms"
    nothing = "nothing"


@dataclass
class Optimizer:
    """How gradients change weights."""

    kind: str = "???"
    """Name of the choice; set by it."""
    lr: float = bounded(0.1, above=0)
    """Base learning rate, which the schedule's factor multiplies."""
    weight_decay: float = bounded(0.0, min=0)
    """Coefficient of the weight decay."""
    decay_exempt: Exempt = Exempt.norms_and_biases
    """Which parameters do not decay; `norms` are the scales and shifts of normalisation layers."""
    clip_norm: Optional[float] = bounded(None, above=0)
    """Largest global norm of the gradients; larger ones are scaled down."""
    lr_scale: dict[str, float] = field(default_factory=dict)
    """Pattern of layers and parameters, `backbone` or `head` → factor of their learning rate; the last match
    decides."""
    layer_decay: Optional[float] = bounded(None, above=0, max=1)
    """Factor of the learning rate from each block of the network to the one before it; null: 1."""


@dataclass
class Sgd(Optimizer):
    """Stochastic gradient descent."""

    kind: str = "sgd"
    decay: Decay = Decay.l2
    """Norm that `weight_decay` penalises."""


@dataclass
class Momentum(Optimizer):
    """Gradient descent with momentum (Polyak, 1964)."""

    kind: str = "momentum"
    decay: Decay = Decay.l2
    """Norm that `weight_decay` penalises."""
    momentum: float = bounded(0.9, min=0, below=1)
    """Fraction of the last update that is kept."""
    nesterov: bool = False
    """Look ahead before taking the gradient (Nesterov, 1983)."""


@dataclass
class RMSProp(Optimizer):
    """Gradients divided by a running root mean square (Tieleman & Hinton, 2012)."""

    kind: str = "rmsprop"
    decay: Decay = Decay.l2
    """Norm that `weight_decay` penalises."""
    rho: float = bounded(0.95, min=0, below=1)
    """Decay of the running mean of squares."""
    momentum: float = bounded(0.0, min=0, below=1)
    """Fraction of the last update that is kept."""
    epsilon: float = bounded(1e-6, above=0)
    """Added to the denominator."""


@dataclass
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    kind: str = "adamw"
    beta1: float = bounded(0.9, min=0, below=1)
    """Decay of the running mean of gradients."""
    beta2: float = bounded(0.999, min=0, below=1)
    """Decay of the running mean of squared gradients."""
    epsilon: float = bounded(1e-8, above=0)
    """Added to the denominator."""


@dataclass
class Lamb(Optimizer):
    """Adam whose steps are scaled to the norm of each weight (You et al., ICLR 2020), for large batches.

    Parameters that are exempt from decay take Adam's steps.
    """

    kind: str = "lamb"
    beta1: float = bounded(0.9, min=0, below=1)
    """Decay of the running mean of gradients."""
    beta2: float = bounded(0.999, min=0, below=1)
    """Decay of the running mean of squared gradients."""
    epsilon: float = bounded(1e-6, above=0)
    """Added to the denominator."""


@dataclass
class CustomOptimizer(Optimizer):
    """A user-defined optimizer: `target(learning_rate=…, parameters=…, **kwargs)`."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


@dataclass
class Schedule:
    """Factor of the learning rate as a function of the optimizer step."""

    kind: str = "???"
    """Name of the choice; set by it."""


@dataclass
class Constant(Schedule):
    """The same learning rate throughout."""

    kind: str = "constant"


@dataclass
class Cosine(Schedule):
    """Half a cosine from 1 down to `end_factor`, reached at the last step (Loshchilov & Hutter, ICLR 2017)."""

    kind: str = "cosine"
    end_factor: float = bounded(0.0, min=0, max=1)
    """Factor at the last step."""


@dataclass
class CosineWarmup(Cosine):
    """A linear rise to 1 over the warm-up, then half a cosine."""

    kind: str = "cosine_warmup"
    warmup_epochs: Optional[float] = bounded(None, min=0)
    """Length of the linear rise in epochs; null: 5, but at most a fifth of the run."""
    start_factor: float = bounded(0.1, min=0, max=1)
    """Factor at the first step."""


@dataclass
class CosineRestarts(Schedule):
    """Cosines from 1 down to `end_factor`, one after another: warm restarts (Loshchilov & Hutter, ICLR 2017)."""

    kind: str = "cosine_restarts"
    cycle_epochs: float = bounded(10.0, above=0)
    """Length of the first cosine in epochs."""
    cycle_factor: float = bounded(2.0, min=1)
    """Length of each cosine relative to the one before it."""
    end_factor: float = bounded(0.0, min=0, max=1)
    """Factor at the end of each cosine."""


@dataclass
class Polynomial(Schedule):
    """A linear rise to 1 over the warm-up, then (1 - progress) to some power down to `end_factor`."""

    kind: str = "polynomial"
    power: float = bounded(1.0, above=0)
    """Exponent; 1 is a straight line."""
    end_factor: float = bounded(0.0, min=0, max=1)
    """Factor at the last step."""
    warmup_epochs: Optional[float] = bounded(None, min=0)
    """Length of the linear rise in epochs; null: 5, but at most a fifth of the run."""
    start_factor: float = bounded(0.1, min=0, max=1)
    """Factor at the first step."""


@dataclass
class OneCycle(Schedule):
    """Half a cosine up to 1, then half a cosine down to almost nothing (Smith & Topin, 2018)."""

    kind: str = "one_cycle"
    rise: float = bounded(0.3, min=0, below=1)
    """Fraction of the run in which the factor rises."""
    start_factor: float = bounded(0.04, min=0, max=1)
    """Factor at the first step."""
    end_factor: float = bounded(4e-6, min=0, max=1)
    """Factor at the last step."""


@dataclass
class Plateau(Schedule):
    """Multiply by `gamma` whenever the monitored metric has not improved for some validations."""

    kind: str = "plateau"
    gamma: float = bounded(0.1, above=0, below=1)
    """Factor of one reduction."""
    patience: int = bounded(10, min=1)
    """Validations without improvement after which the learning rate is reduced."""
    min_delta: float = bounded(0.0, min=0)
    """Smallest change of the monitored metric that counts as an improvement."""
    min_factor: float = bounded(0.0, min=0, max=1)
    """Factor below which it is not reduced."""


@dataclass
class Piecewise(Schedule):
    """A constant factor for each interval of epochs."""

    kind: str = "piecewise"
    boundaries: list[float] = bounded([30.0, 60.0, 90.0], above=0)
    """Epochs at which the next factor begins, rising."""
    factors: list[float] = bounded([1.0, 0.1, 0.01, 0.001], min=0)
    """Factor of each interval: one more than there are boundaries."""


@dataclass
class ExponentialWarmup(Schedule):
    """A linear rise to 1 over the warm-up, then a factor `gamma` every `decay_epochs`."""

    kind: str = "exponential_warmup"
    warmup_epochs: Optional[float] = bounded(None, min=0)
    """Length of the linear rise in epochs; null: 5, but at most a fifth of the run."""
    start_factor: float = bounded(0.1, min=0, max=1)
    """Factor at the first step."""
    decay_epochs: float = bounded(2.4, above=0)
    """Epochs between two decays, counted from the end of the warm-up."""
    gamma: float = bounded(0.97, above=0, max=1)
    """Factor of one decay."""


@dataclass
class CustomSchedule(Schedule):
    """A user-defined schedule: `target(step=…, steps=…, steps_per_epoch=…, **kwargs)` returns the factor."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


class Level(Enum):
    """Levels of automatic mixed precision as Paddle names them."""

    O1 = "O1"
    O2 = "O2"


@dataclass
class Amp:
    """Automatic mixed precision."""

    kind: str = "???"
    """Name of the choice; set by it."""


@dataclass
class AmpOff(Amp):
    """Everything in float32."""

    kind: str = "off"


@dataclass
class Bf16(Amp):
    """bfloat16 where it is safe; needs no loss scaling."""

    kind: str = "bf16"
    level: Level = Level.O1
    """O1 casts listed operators, O2 casts the weights too and keeps float32 masters."""
    fallback: bool = False
    """Train in float32, with a note, if the device has no mixed precision."""


@dataclass
class Fp16(Bf16):
    """float16 where it is safe, with loss scaling (Micikevicius et al., ICLR 2018)."""

    kind: str = "fp16"
    initial_scale: float = bounded(32768.0, min=1)
    """Loss scale at the first step."""
    dynamic: bool = True
    """Halve the scale after an overflow and double it after many steps without one."""
