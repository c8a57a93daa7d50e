"""Schema of the group `loss`: the loss of logits against labels."""

from dataclasses import dataclass, field
from typing import Any

from .fields import bounded


@dataclass
class Loss:
    """Loss of logits against labels."""

    kind: str = "???"
    """Name of the choice; set by it."""


@dataclass
class WeightedLoss(Loss):
    """A loss with weights for classes."""

    class_weights: Any = bounded(None, min=0)
    """Factor of each class's images: `auto` (inverse frequency, 1 averaged over images), a list in the data set's
    order of classes, or by name, `{cat: 2}`, with 1 for the others; null: 1. With `data.labels=many` the factor applies
    where an image has the label, and `auto` is the ratio of images without it to those with it."""


@dataclass
class CrossEntropy(WeightedLoss):
    """Mean cross entropy with the labels."""

    kind: str = "cross_entropy"


@dataclass
class LabelSmoothing(WeightedLoss):
    """Cross entropy with softened labels (Szegedy et al., CVPR 2016)."""

    kind: str = "label_smoothing"
    epsilon: float = bounded(0.1, min=0, below=1)
    """Fraction of the target spread evenly over all classes."""


@dataclass
class Focal(WeightedLoss):
    """Cross entropy in which confident images count less (Lin et al., ICCV 2017).

    With `data.labels=many` the binary cross entropy of each label.
    """

    kind: str = "focal"
    gamma: float = bounded(2.0, min=0)
    """Exponent of (1 - p) with p the label's probability; 0 is plain cross entropy."""


@dataclass
class LogitAdjustment(Loss):
    """Cross entropy of logits to which the logarithm of the classes' frequencies is added (Menon et al., ICLR 2021)."""

    kind: str = "logit_adjustment"
    tau: float = bounded(1.0, min=0)
    """Factor of the logarithms; 1 optimizes balanced accuracy."""


@dataclass
class Bce(WeightedLoss):
    """Binary cross entropy of each label, for `data.labels=many`."""

    kind: str = "bce"
    epsilon: float = bounded(0.0, min=0, below=1)
    """Label smoothing: targets are ε/2 and 1 - ε/2."""


@dataclass
class Asl(Loss):
    """Asymmetric loss, for `data.labels=many`: focal, more so for absent labels (Ridnik et al., ICCV 2021)."""

    kind: str = "asl"
    gamma_positive: float = bounded(0.0, min=0)
    """Exponent of (1 - p) where the image has the label."""
    gamma_negative: float = bounded(4.0, min=0)
    """Exponent of p where it does not."""
    margin: float = bounded(0.05, min=0, below=1)
    """Subtracted from p where it does not: absent labels with a smaller p do not count."""


@dataclass
class CustomLoss(Loss):
    """A user-defined loss: `target(logits, labels, **kwargs)` returns a scalar.

    Labels are int64 [N]; with Mixup or CutMix float32 [N, K], the shares of the classes.
    """

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""
