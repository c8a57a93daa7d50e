"""Schemas of the groups `mimic` and `features`: losses that make a network follow others."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded


@dataclass
class Ramp:
    """How the factor of a term changes: linearly, from a share of its weight to another."""

    start: float = bounded(0.0, min=0, max=1)
    """Share of the weight at first."""
    end: float = bounded(1.0, min=0, max=1)
    """Share of the weight at last."""
    begin: float = bounded(0.0, min=0)
    """Epochs before it begins to change, or steps where `steps` is given."""
    epochs: Optional[float] = bounded(None, above=0)
    """Epochs in which it changes; null, and no steps either: the term has its whole weight throughout."""
    steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps in which it changes, instead of epochs."""

    @property
    def changes(self) -> bool:
        """Whether the factor changes at all."""
        return self.epochs is not None or self.steps is not None

    def stretch(self, steps_per_epoch: int) -> tuple[float, float]:
        """The optimizer steps after which the factor begins to change, and after which it has changed."""
        if self.steps is not None:
            return self.begin, self.begin + self.steps
        return self.begin * steps_per_epoch, (self.begin + (self.epochs or 0.0)) * steps_per_epoch

    def share(self, step: int, steps_per_epoch: int) -> float:
        """Share of the weight in the step behind so many others."""
        if not self.changes:
            return 1.0
        begin, end = self.stretch(steps_per_epoch)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, (step - begin) / (end - begin)))


@dataclass
class Mimic:
    """Loss that makes a network's logits follow its peer's."""

    kind: str = "???"
    """What the choice is; set by it."""
    weight: float = bounded(1.0, min=0)
    """Factor of the mimic term."""
    ramp: Ramp = field(default_factory=Ramp)
    """How the factor changes."""
    detach_peer: bool = True
    """Keep the gradient of the term from reaching the peer."""


@dataclass
class Dml(Mimic):
    """Deep Mutual Learning: KL(peer ‖ network), mean over the batch (Zhang et al., CVPR 2018)."""

    kind: str = "dml"


class Divergence(Enum):
    """The two formulas of the original `KLJSLoss`."""

    kl = "kl"
    js = "js"


class Reduction(Enum):
    """How a tensor of losses becomes a number."""

    mean = "mean"
    sum = "sum"


@dataclass
class JsOriginal(Mimic):
    """The original's `KLJSLoss`, epsilons and mean over all elements included; for exact reproduction."""

    kind: str = "js_original"
    divergence: Divergence = Divergence.js
    """Its symmetric form or its one-sided one."""
    reduction: Reduction = Reduction.mean
    """Mean over batch and classes, or sum."""


@dataclass
class Kl(Mimic):
    """KL(peer ‖ network) of softened outputs, mean over the batch, without the T² factor."""

    kind: str = "kl"
    temperature: float = bounded(1.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Bring each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Kd(Mimic):
    """Knowledge distillation: (1-α)·CE + α·T²·KL(peer ‖ network) at temperature T (Hinton et al., 2015)."""

    kind: str = "kd"
    alpha: float = bounded(0.5, min=0, max=1)
    """Share of the peer's outputs; the labels have the rest."""
    temperature: float = bounded(4.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Bring each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Dkd(Mimic):
    """Decoupled distillation: T²·(α·TCKD + β·NCKD), beside the whole loss of labels (Zhao et al., CVPR 2022)."""

    kind: str = "dkd"
    alpha: float = bounded(1.0, min=0)
    """Factor of the part of the label against all other classes."""
    beta: float = bounded(8.0, min=0)
    """Factor of the part of the other classes among themselves; the surer the teacher, the smaller."""
    temperature: float = bounded(4.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Bring each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Dist(Mimic):
    """Correlations of probabilities with the peer's, within images and within classes (Huang et al., NeurIPS 2022)."""

    kind: str = "dist"
    beta: float = bounded(2.0, min=0)
    """Factor of the correlations of an image's classes."""
    gamma: float = bounded(2.0, min=0)
    """Factor of the correlations of a class's images, of those that a process computes at once."""
    temperature: float = bounded(1.0, above=0)
    """Divisor of both logits before the softmax."""


@dataclass
class Rkd(Mimic):
    """Distances and angles between the logits of a batch's images, those computed at once (Park et al., CVPR 2019)."""

    kind: str = "rkd"
    distance: float = bounded(25.0, min=0)
    """Factor of the distances of pairs."""
    angle: float = bounded(50.0, min=0)
    """Factor of the angles of triplets, which take the memory of N³ numbers; 0: none."""


@dataclass
class CustomMimic(Mimic):
    """A user-defined mimic loss: `target(logits, peer_logits, **kwargs)` returns a scalar."""

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


@dataclass
class FeatureLoss:
    """Loss that makes layers within a network give what layers of its peer or teacher give."""

    kind: str = "???"
    """What the choice is; set by it."""
    weight: float = bounded(1.0, min=0)
    """Factor of the feature term."""
    ramp: Ramp = field(default_factory=Ramp)
    """How the factor changes."""
    layers: list[str] = field(default_factory=list)
    """Layers of the student, by their names in the network, such as `[conv4,conv9]`."""
    peer_layers: list[str] = field(default_factory=list)
    """Layers of the peer or teacher, one for each of the student's, in their order; empty: of the same names."""


@dataclass
class AttentionTransfer(FeatureLoss):
    """Mean squared difference of normalised spatial attention maps (Zagoruyko & Komodakis, ICLR 2017)."""

    kind: str = "attention_transfer"
    weight: float = bounded(1000.0, min=0)
    """Factor of the feature term; the paper's β, for means over images and pixels."""


@dataclass
class Hint(FeatureLoss):
    """Squared differences of maps, the student's through a learnt 1×1 convolution first (Romero et al., ICLR 2015)."""

    kind: str = "hint"


@dataclass
class RkdFeatures(FeatureLoss):
    """Distances and angles between pooled maps of images that are computed at once (Park et al., CVPR 2019)."""

    kind: str = "rkd"
    distance: float = bounded(25.0, min=0)
    """Factor of the distances of pairs."""
    angle: float = bounded(50.0, min=0)
    """Factor of the angles of triplets, which take the memory of N³ numbers; 0: none."""


@dataclass
class CustomFeatureLoss(FeatureLoss):
    """A user-defined loss: `target(student_features, peer_features, **kwargs)` returns a scalar.

    Both are dictionaries in the order of `layers`: layer to maps float32 [N, C, H, W].
    """

    kind: str = "custom"
    target: str = "???"
    """Where the callable is: `package.module:callable`."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the callable."""


@dataclass
class Also:
    """Further terms beside `mimic` and `features`, by names of your choice, with which they are logged."""

    mimic: dict[str, Mimic] = field(default_factory=dict)
    """Losses of logits: `+mimic@also.mimic.NAME=dist`, then `also.mimic.NAME.weight=…`."""
    features: dict[str, FeatureLoss] = field(default_factory=dict)
    """Losses of features: `+features@also.features.NAME=rkd also.features.NAME.layers=[conv4]`."""
