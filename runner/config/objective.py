"""Schemas of the groups `loss`, `mimic`, `features` and `mode`: what is minimised."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Optional

from .fields import bounded, path
from .model import Model
from .optimization import Optimizer, Schedule


@dataclass
class Loss:
    """Loss of logits against labels."""

    kind: str = "???"
    """What the choice is; set by it."""


@dataclass
class WeightedLoss(Loss):
    """A loss in which images of some classes can count for more than those of others."""

    class_weights: Any = bounded(None, min=0)
    """Factor of each class's images: `auto` (inverse frequency, 1 in the mean over images), a list in the order of the
    classes, or by name, `{cat: 2}`, where others have 1; null: 1. With `data.labels=many` it is the factor where an
    image has the label, and `auto` the ratio of images without it to those with it."""


@dataclass
class CrossEntropy(WeightedLoss):
    """Mean cross entropy with the labels."""

    kind: str = "cross_entropy"


@dataclass
class LabelSmoothing(WeightedLoss):
    """Cross entropy with softened labels (Szegedy et al., CVPR 2016)."""

    kind: str = "label_smoothing"
    epsilon: float = bounded(0.1, min=0, below=1)
    """Part of the target spread evenly over all classes."""


@dataclass
class Focal(WeightedLoss):
    """Cross entropy in which images count less, the surer the network is of their label (Lin et al., ICCV 2017).

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
    """Factor of the logarithms; 1 suits the balanced accuracy."""


@dataclass
class Bce(WeightedLoss):
    """Binary cross entropy of each label, for `data.labels=many`."""

    kind: str = "bce"
    epsilon: float = bounded(0.0, min=0, below=1)
    """Label smoothing: targets are ε/2 and 1 - ε/2."""


@dataclass
class Asl(Loss):
    """Asymmetric loss, for `data.labels=many`: focal, more so where a label is absent (Ridnik et al., ICCV 2021)."""

    kind: str = "asl"
    gamma_positive: float = bounded(0.0, min=0)
    """Exponent of (1 - p) where the image has the label."""
    gamma_negative: float = bounded(4.0, min=0)
    """Exponent of p where it has not."""
    margin: float = bounded(0.05, min=0, below=1)
    """Subtracted from p where it has not: what is surer than that counts nothing."""


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


@dataclass
class Mimic:
    """Loss that makes a network's logits follow its peer's."""

    kind: str = "???"
    """What the choice is; set by it."""
    weight: float = bounded(1.0, min=0)
    """Factor of the mimic term."""
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


@dataclass
class Mode:
    """Which networks exist and what each optimizer minimises."""

    kind: str = "???"
    """What the choice is; set by it."""


@dataclass
class Cls(Mode):
    """One network, one optimizer."""

    kind: str = "cls"


@dataclass
class ClsDistill(Mode):
    """Two or more networks that learn from the labels and from each other, one optimizer over all."""

    kind: str = "cls_distill"
    peer: Optional[Model] = None
    """The second network and all further ones; null: the same as `model`. Choose with `model@mode.peer=…`."""
    peers: int = bounded(2, min=2)
    """How many networks learn from each other; each follows the others in the mean over them."""


@dataclass
class ClsDistillMultiopt(ClsDistill):
    """Two or more networks that learn from each other, one optimizer and one schedule each."""

    kind: str = "cls_distill_multiopt"
    peer_optimizer: Optional[Optimizer] = None
    """Of all but the first network; null: the same as `optimizer`. Choose with `optimizer@mode.peer_optimizer=…`."""
    peer_schedule: Optional[Schedule] = None
    """Of all but the first network; null: the same as `schedule`. Choose with `schedule@mode.peer_schedule=…`."""


@dataclass
class ClsTeacher(Mode):
    """A network that learns from the labels and from a trained, frozen teacher."""

    kind: str = "cls_teacher"
    teacher_from: Optional[str] = path(None)
    """The teacher's weights: a run (directory or MLflow run id) or a file as for `model.weights`; null: those that
    `mode.teacher.weights` names."""
    teacher_network: str = "student"
    """Which network of that run or file is the teacher."""
    trust: bool = False
    """Import and call the `custom` model that the teacher's run names: its code comes from whoever made that run."""
    teacher: Optional[Model] = None
    """The teacher's architecture; null: that of the run, or `model` for a file. Choose with `model@mode.teacher=…`."""
    more_teachers: list[str] = path([])
    """Further teachers, as `teacher_from`; the architecture is that of each one's run, for a file as of `teacher`."""
    teacher_weights: list[float] = bounded([], min=0)
    """What each teacher counts for, in their order, whatever the sum; empty: all the same."""

    @property
    def teachers(self) -> dict[str, Optional[str]]:
        """Name → weights of every teacher: `teacher`, `teacher1`, …"""
        names = ["teacher", *(f"teacher{number}" for number in range(1, len(self.more_teachers) + 1))]
        return dict(zip(names, [self.teacher_from, *self.more_teachers], strict=True))
