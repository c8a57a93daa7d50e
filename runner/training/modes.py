"""What the outputs of the networks mean: one loss, a dict of named terms, for each optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import Tensor

from .. import config as cfg
from ..config.rules import network_names
from ..models import Output
from . import binary, feature_losses, losses, mimics

#: Network name → what it made of the batch.
Outputs = dict[str, Output]
#: Term name (`ce/student`, `mimic/student`, `features/student`, `mimic/NAME/student`, …) → scalar.
Terms = dict[str, Tensor]
#: Network → what following it counts for; 1 in the sum.
Shares = dict[str, float]


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
    kind, hard = binary if config.data.many else losses, hard_loss(config, classes)
    if isinstance(config.mode, cfg.Cls):
        return Mode([["student"]], lambda outputs, labels: [{"ce/student": hard(outputs["student"].logits, labels)}])
    follow = _Following(
        hard,
        {_term(key): (one, mimics.build(one, kind.kl_divergence)) for key, one in config.mimics.items()},
        {_term(key): (one, feature_losses.build(one)) for key, one in config.feature_losses.items()},
        _shares(config.mode),
    )
    names = network_names(config.mode)
    taps = _taps(config, list(follow.shares))
    match config.mode:
        case cfg.ClsTeacher():
            return Mode([names], lambda outputs, labels: [follow(outputs, labels, "student")], taps)
        case cfg.ClsDistillMultiopt():
            return Mode([[name] for name in names], follow.each_other, taps)
        case cfg.ClsDistill():
            joint = isinstance(config.mimic, cfg.JsOriginal) and not config.mimic.detach_peer
            all_of_them = follow.jointly if joint else follow.each_other
            return Mode([names], lambda outputs, labels: [_merge(all_of_them(outputs, labels))], taps)
    raise AssertionError(config.mode)


def hard_loss(config: cfg.Config, classes: losses.Classes | None = None) -> losses.HardLoss:
    """The loss against labels that the config chooses. Errors: ConfigError for one that does not suit the classes."""
    return (binary if config.data.many else losses).build(config.loss, classes)


def _term(key: str) -> str:
    """The name of a term of the key `mimic`, `also.mimic.NAME`, …"""
    return key.removeprefix("also.").replace(".", "/")


def _shares(mode: cfg.Mode) -> Shares:
    """The networks that a mode has beside the student; of peers only those beside the network itself are followed."""
    if isinstance(mode, cfg.ClsTeacher):
        weights = mode.teacher_weights or [1.0] * (1 + len(mode.more_teachers))
        return {name: weight / sum(weights) for name, weight in zip(mode.teachers, weights, strict=True)}
    peers = network_names(mode)[1:]
    return dict.fromkeys(peers, 1 / len(peers))


def layers_of(settings: cfg.FeatureLoss, network: str) -> list[str]:
    """The layers that a feature loss compares, of the student or of another network."""
    return settings.layers if network == "student" else settings.peer_layers or settings.layers


def _taps(config: cfg.Config, others: list[str]) -> dict[str, list[str]]:
    """Network → the layers that all feature losses compare, each once."""
    if not config.feature_losses:
        return {}
    return {
        name: list(dict.fromkeys(layer for one in config.feature_losses.values() for layer in layers_of(one, name)))
        for name in ("student", *others)
    }


@dataclass
class _Following:
    """Losses of networks that learn from the labels and from others."""

    hard: losses.HardLoss
    mimics: dict[str, tuple[cfg.Mimic, mimics.MimicLoss]]
    features: dict[str, tuple[cfg.FeatureLoss, feature_losses.FeatureLoss]]
    shares: Shares

    def __post_init__(self) -> None:
        self.hard_share = next((1 - one.alpha for one, _ in self.mimics.values() if isinstance(one, cfg.Kd)), 1.0)

    def __call__(self, outputs: Outputs, labels: Tensor, name: str) -> Terms:
        """Terms of one network; no gradient reaches another one unless the config says so."""
        terms = self._hard(outputs, labels, name)
        for term in self.mimics:
            terms[f"{term}/{name}"] = self._mimic(outputs, labels, name, term)
        return terms | self._features(outputs, name)

    def each_other(self, outputs: Outputs, labels: Tensor) -> list[Terms]:
        """Terms of the student and of each of its peers."""
        return [self(outputs, labels, name) for name in ("student", *self.shares)]

    def jointly(self, outputs: Outputs, labels: Tensor) -> list[Terms]:
        """Terms of two networks with one mimic loss over the pair whose gradient reaches both, as the original had it.

        Further mimic losses are of each network.
        """
        settings, loss = self.mimics["mimic"]
        student, peer = outputs["student"].logits, outputs["student1"].logits
        hard = self._hard(outputs, labels, "student") | self._hard(outputs, labels, "student1")
        pair = {"mimic/pair": settings.weight * loss(student, peer, labels)}
        further = {
            f"{term}/{name}": self._mimic(outputs, labels, name, term)
            for name in ("student", "student1")
            for term in self.mimics
            if term != "mimic"
        }
        return [hard, pair, further, self._features(outputs, "student") | self._features(outputs, "student1")]

    def _followed(self, name: str) -> Shares:
        """The networks that one follows: the teachers, or all peers but itself."""
        if name == "student":
            return self.shares
        return {peer: 1 / len(self.shares) for peer in ("student", *self.shares) if peer != name}

    def _hard(self, outputs: Outputs, labels: Tensor, name: str) -> Terms:
        return {f"ce/{name}": self.hard_share * self.hard(outputs[name].logits, labels)}

    def _mimic(self, outputs: Outputs, labels: Tensor, name: str, term: str) -> Tensor:
        settings, loss = self.mimics[term]

        def against(peer: str) -> Tensor:
            other = outputs[peer].logits
            return loss(outputs[name].logits, other.detach() if settings.detach_peer else other, labels)

        return settings.weight * _mean(against, self._followed(name))

    def _features(self, outputs: Outputs, name: str) -> Terms:
        """The terms of a network's features, which have no gradient for others; empty without a feature loss."""
        return {f"{term}/{name}": self._feature(outputs, name, term) for term in self.features}

    def _feature(self, outputs: Outputs, name: str, term: str) -> Tensor:
        settings, loss = self.features[term]
        own = {layer: outputs[name].features[layer] for layer in layers_of(settings, name)}

        def against(peer: str) -> Tensor:
            return loss(own, {layer: outputs[peer].features[layer].detach() for layer in layers_of(settings, peer)})

        # Features are float32, and their squares would not fit into half precision.
        with paddle.amp.auto_cast(enable=False):
            return settings.weight * _mean(against, self._followed(name))


def _mean(against: Callable[[str], Tensor], followed: Shares) -> Tensor:
    """The mean of losses against several networks, weighted by their shares."""
    if len(followed) == 1:
        return against(*followed)
    return paddle.add_n([share * against(peer) for peer, share in followed.items()])


def _merge(terms: list[Terms]) -> Terms:
    return {name: value for part in terms for name, value in part.items()}
