"""What the outputs of the networks mean: one loss, a dict of named terms, for each optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import Tensor

from .. import config as cfg
from ..models import Output
from . import binary, feature_losses, losses

#: Network name → what it made of the batch.
Outputs = dict[str, Output]
#: Term name (`ce/student`, `mimic/student`, `features/student`, …) → scalar.
Terms = dict[str, Tensor]


@dataclass
class Mode:
    """The answer of a mode to: which networks are trained, which optimizer owns which, what does each minimise."""

    owners: list[list[str]]
    """Names of the networks that each optimizer owns."""
    losses: Callable[[Outputs, Tensor], list[Terms]]
    """(outputs, labels as a `Batch` has them) → the terms of each optimizer's loss, which is their sum."""
    taps: dict[str, list[str]] = field(default_factory=dict)
    """Network → layers within it that the losses look at, of frozen networks too."""

    @property
    def networks(self) -> list[str]:
        """Names of all trained networks."""
        return [name for names in self.owners for name in names]


def build(config: cfg.Config, classes: losses.Classes | None = None) -> Mode:
    """The mode that the config chooses. Errors: ConfigError for a loss that does not suit the classes."""
    kind = binary if config.data.many else losses
    hard = kind.build(config.loss, classes)
    if isinstance(config.mode, cfg.Cls):
        return Mode([["student"]], lambda outputs, labels: [{"ce/student": hard(outputs["student"].logits, labels)}])
    mimic = losses.build_mimic(config.mimic, kind.kl_divergence) if config.mimic else None
    follow = _Following(hard, config.mimic, mimic, config.features)
    match config.mode:
        case cfg.ClsTeacher():
            return Mode(
                [["student"]],
                lambda outputs, labels: [follow(outputs, labels, "student", "teacher")],
                _taps(config.features, "teacher"),
            )
        case cfg.ClsDistillMultiopt():
            return Mode([["student"], ["student1"]], follow.each_other, _taps(config.features, "student1"))
        case cfg.ClsDistill():
            joint = isinstance(config.mimic, cfg.JsOriginal) and not config.mimic.detach_peer
            both = follow.jointly if joint else follow.each_other
            return Mode(
                [["student", "student1"]],
                lambda outputs, labels: [_merge(both(outputs, labels))],
                _taps(config.features, "student1"),
            )
    raise AssertionError(config.mode)


def _taps(features: cfg.FeatureLoss | None, peer: str) -> dict[str, list[str]]:
    """Network → the layers that a feature loss compares."""
    return {"student": features.layers, peer: features.peer_layers or features.layers} if features else {}


@dataclass
class _Following:
    """Losses of networks that learn from the labels and from a peer."""

    hard: losses.HardLoss
    mimic: cfg.Mimic | None
    mimic_loss: losses.MimicLoss | None
    features: cfg.FeatureLoss | None

    def __post_init__(self) -> None:
        self.feature_loss = feature_losses.build(self.features) if self.features else None
        self.hard_share = 1 - self.mimic.alpha if isinstance(self.mimic, cfg.Kd) else 1.0

    def __call__(self, outputs: Outputs, labels: Tensor, name: str, peer: str) -> Terms:
        """Terms of one network; no gradient reaches the peer unless the config says so."""
        terms = self._hard(outputs, labels, name)
        if self.mimic and self.mimic_loss:
            other = outputs[peer].logits
            mimic = self.mimic_loss(outputs[name].logits, other.detach() if self.mimic.detach_peer else other)
            terms[f"mimic/{name}"] = self.mimic.weight * mimic
        return terms | self._features(outputs, name, peer)

    def each_other(self, outputs: Outputs, labels: Tensor) -> list[Terms]:
        """Terms of the student and of its peer."""
        return [self(outputs, labels, "student", "student1"), self(outputs, labels, "student1", "student")]

    def jointly(self, outputs: Outputs, labels: Tensor) -> list[Terms]:
        """Terms with one mimic loss over the pair whose gradient reaches both networks, as the original had it."""
        assert self.mimic is not None
        assert self.mimic_loss is not None
        student, peer = outputs["student"].logits, outputs["student1"].logits
        hard = self._hard(outputs, labels, "student") | self._hard(outputs, labels, "student1")
        pair = {"mimic/pair": self.mimic.weight * self.mimic_loss(student, peer)}
        features = self._features(outputs, "student", "student1") | self._features(outputs, "student1", "student")
        return [hard, pair, features]

    def _hard(self, outputs: Outputs, labels: Tensor, name: str) -> Terms:
        return {f"ce/{name}": self.hard_share * self.hard(outputs[name].logits, labels)}

    def _features(self, outputs: Outputs, name: str, peer: str) -> Terms:
        """The term of a network's features, which has no gradient for the peer; empty without a feature loss."""
        if not (self.features and self.feature_loss):
            return {}
        followed = {layer: maps.detach() for layer, maps in outputs[peer].features.items()}
        # Features are float32, and their squares would not fit into half precision.
        with paddle.amp.auto_cast(enable=False):
            return {f"features/{name}": self.features.weight * self.feature_loss(outputs[name].features, followed)}


def _merge(terms: list[Terms]) -> Terms:
    return {name: value for part in terms for name, value in part.items()}
