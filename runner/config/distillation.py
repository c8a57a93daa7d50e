"""Schemas of the groups `mimic` and `features`: distillation losses."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded


@dataclass
class Ramp:
    """How the factor of a term changes: linearly, from one share of its weight to another."""

    start: float = bounded(0.0, min=0, max=1)
    """Share of the weight at the start."""
    end: float = bounded(1.0, min=0, max=1)
    """Share of the weight at the end."""
    begin: float = bounded(0.0, min=0)
    """Epochs before it begins to change, or steps if `steps` is given."""
    epochs: Optional[float] = bounded(None, above=0)
    """Epochs over which it changes; null, without steps: the term has its whole weight throughout."""
    steps: Optional[int] = bounded(None, min=1)
    """Optimizer steps over which it changes, instead of epochs."""

    @property
    def changes(self) -> bool:
        """Whether the factor changes at all."""
        return self.epochs is not None or self.steps is not None

    def stretch(self, steps_per_epoch: int) -> tuple[float, float]:
        """The optimizer steps after which the factor begins and ends to change."""
        if self.steps is not None:
            return self.begin, self.begin + self.steps
        return self.begin * steps_per_epoch, (self.begin + (self.epochs or 0.0)) * steps_per_epoch

    def share(self, step: int, steps_per_epoch: int) -> float:
        """Share of the weight in the step after `step` others."""
        if not self.changes:
            return 1.0
        begin, end = self.stretch(steps_per_epoch)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, (step - begin) / (end - begin)))


@dataclass
class Mimic:
    """Distillation loss between a network's logits and its peer's."""

    kind: str = "???"
    """Name of the choice; set by it."""
    weight: float = bounded(1.0, min=0)
    """Factor of the mimic term."""
    ramp: Ramp = field(default_factory=Ramp)
    """How the factor changes."""
    teachers: list[str] = field(default_factory=list)
    """Teachers of `mode=cls_teacher` that the term follows: `teacher`, and names of `mode.more_teachers`; none: all."""
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
    """The original's `KLJSLoss`, including its epsilons and mean over all elements; for exact reproduction."""

    kind: str = "js_original"
    divergence: Divergence = Divergence.js
    """The symmetric form or the one-sided one."""
    reduction: Reduction = Reduction.mean
    """Mean over batch and classes, or sum."""


@dataclass
class Kl(Mimic):
    """KL(peer ‖ network) of softened outputs, mean over the batch, without the T² factor."""

    kind: str = "kl"
    temperature: float = bounded(1.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Standardize each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Kd(Mimic):
    """Knowledge distillation: (1-α)·CE + α·T²·KL(peer ‖ network) at temperature T (Hinton et al., 2015)."""

    kind: str = "kd"
    alpha: float = bounded(0.5, min=0, max=1)
    """Weight α of the peer's outputs; the labels have 1 - α."""
    temperature: float = bounded(4.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Standardize each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Dkd(Mimic):
    """Decoupled distillation: T²·(α·TCKD + β·NCKD), in addition to the full loss against labels (Zhao et al., CVPR
    2022)."""

    kind: str = "dkd"
    alpha: float = bounded(1.0, min=0)
    """Weight of TCKD, the label against all other classes."""
    beta: float = bounded(8.0, min=0)
    """Weight of NCKD, the other classes among themselves; smaller for a more confident teacher."""
    temperature: float = bounded(4.0, above=0)
    """Divisor of both logits before the softmax."""
    standardize: bool = False
    """Standardize each image's logits to mean 0 and standard deviation 1 first (Sun et al., CVPR 2024)."""


@dataclass
class Dist(Mimic):
    """Correlations of probabilities with the peer's, within images and within classes (Huang et al., NeurIPS 2022)."""

    kind: str = "dist"
    beta: float = bounded(2.0, min=0)
    """Weight of the correlations within an image, over classes."""
    gamma: float = bounded(2.0, min=0)
    """Weight of the correlations within a class, over the images that a process computes at once."""
    temperature: float = bounded(1.0, above=0)
    """Divisor of both logits before the softmax."""


@dataclass
class Rkd(Mimic):
    """Distances and angles between the logits of the images that are computed at once (Park et al., CVPR 2019)."""

    kind: str = "rkd"
    distance: float = bounded(25.0, min=0)
    """Weight of the distances between pairs."""
    angle: float = bounded(50.0, min=0)
    """Weight of the angles of triplets, which take memory for N³ numbers; 0: none."""


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
    """Distillation loss between layers of a network and layers of its peer or teacher."""

    kind: str = "???"
    """Name of the choice; set by it."""
    weight: float = bounded(1.0, min=0)
    """Factor of the feature term."""
    ramp: Ramp = field(default_factory=Ramp)
    """How the factor changes."""
    teachers: list[str] = field(default_factory=list)
    """Teachers of `mode=cls_teacher` that the term follows: `teacher`, and names of `mode.more_teachers`; none: all.
    Teachers of several kinds, whose layers differ in their names, need a term for each kind."""
    layers: list[str] = field(default_factory=list)
    """Layers of the student, by their names in the network, such as `[conv4,conv9]`."""
    peer_layers: list[str] = field(default_factory=list)
    """Layers of the peer or teacher, one for each of the student's, in the same order; empty: the same names."""


@dataclass
class AttentionTransfer(FeatureLoss):
    """Mean squared difference of normalised spatial attention maps (Zagoruyko & Komodakis, ICLR 2017)."""

    kind: str = "attention_transfer"
    weight: float = bounded(1000.0, min=0)
    """Factor of the feature term; the paper's β, for means over images and pixels."""


@dataclass
class Hint(FeatureLoss):
    """Mean squared difference of maps, the student's after a learnt 1×1 convolution (Romero et al., ICLR 2015)."""

    kind: str = "hint"


@dataclass
class RkdFeatures(FeatureLoss):
    """Distances and angles between pooled maps of the images that are computed at once (Park et al., CVPR 2019)."""

    kind: str = "rkd"
    distance: float = bounded(25.0, min=0)
    """Weight of the distances between pairs."""
    angle: float = bounded(50.0, min=0)
    """Weight of the angles of triplets, which take memory for N³ numbers; 0: none."""


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


def choosing(key: str, choice: str) -> str:
    """The override that makes the term of a key (`mimic`, `also.features.NAME`, …) another choice."""
    first, _, rest = key.partition(".")
    return f"+{rest.partition('.')[0]}@{key}={choice}" if first == "also" else f"{key}={choice}"


@dataclass
class Also:
    """Further terms in addition to `mimic` and `features`, logged under names of your choice."""

    mimic: dict[str, Mimic] = field(default_factory=dict)
    """Losses of logits: `+mimic@also.mimic.NAME=dist`, then `also.mimic.NAME.weight=…`."""
    features: dict[str, FeatureLoss] = field(default_factory=dict)
    """Losses of features: `+features@also.features.NAME=rkd also.features.NAME.layers=[conv4]`."""
