"""What each optimizer minimises: the networks' outputs become one loss, a dict of named terms, for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import paddle
from paddle import Tensor

from .. import config as cfg
from ..config.rules import network_names
from ..models import Output
from . import binary, feature_losses, losses, mimics
from .hints import Adapters

#: Network name → its output for the batch.
Outputs = dict[str, Output]
#: Term name (`ce/student`, `mimic/student`, `features/student`, `mimic/NAME/student`, …) → scalar.
Terms = dict[str, Tensor]
#: Network → its weight in the mean over the peers or teachers that a term follows; the weights sum to 1.
Shares = dict[str, float]


@dataclass
class Mode:
    """What a mode decides: which networks are trained, which optimizer owns which, and what each of them minimises."""

    owners: list[list[str]]
    """Names of the networks that each optimizer owns."""
    losses: Callable[[Outputs, Tensor, int], list[Terms]]
    """(outputs, labels as a `Batch` has them, steps done) → the terms of each optimizer's loss, which is their sum."""
    taps: dict[str, list[str]] = field(default_factory=dict)
    """Network → the layers whose features the losses use, of frozen networks too."""
    adapters: Adapters = field(default_factory=Adapters)
    """Adapters that features pass through before they are compared; `worker.features` adds them once channels are
    known."""
    ramped: Callable[[int], dict[str, float]] = lambda step: {}
    """Steps done → the factors of ramped terms in the next step, by the term's name without its network."""

    @property
    def networks(self) -> list[str]:
        """Names of all trained networks."""
        return [name for names in self.owners for name in names]


def build(config: cfg.Config, classes: losses.Classes | None = None, steps_per_epoch: int = 1) -> Mode:
    """The mode that the config chooses. Errors: ConfigError for a loss that does not suit the classes."""
    kind, hard = binary if config.data.many else losses, hard_loss(config, classes)
    if isinstance(config.mode, cfg.Cls) and not config.mode.average:
        return Mode([["student"]], lambda outputs, labels, _: [{"ce/student": hard(outputs["student"].logits, labels)}])
    follow = _Following(
        hard,
        {term_of(key): (one, mimics.build(one, kind.kl_divergence, key)) for key, one in config.mimics.items()},
        {term_of(key): (one, feature_losses.build(one, key)) for key, one in config.feature_losses.items()},
        config.mode,
        steps_per_epoch,
    )
    names = network_names(config.mode)
    match config.mode:
        case cfg.ClsDistillMultiopt():
            owners, minimised = [[name] for name in names], follow.each_other
        case cfg.ClsDistill():
            joint = isinstance(config.mimic, cfg.JsOriginal) and not config.mimic.detach_peer
            all_of_them = follow.jointly if joint else follow.each_other
            owners, minimised = [names], lambda *batch: [_merge(all_of_them(*batch))]
        case _:
            owners, minimised = [names], lambda outputs, labels, step: [follow(outputs, labels, step, "student")]
    return Mode(owners, minimised, _taps(config), follow.adapters, follow.ramped)


def hard_loss(config: cfg.Config, classes: losses.Classes | None = None) -> losses.HardLoss:
    """The loss against labels that the config chooses. Errors: ConfigError for one that does not suit the classes."""
    return (binary if config.data.many else losses).build(config.loss, classes)


def term_of(key: str) -> str:
    """The name under which the loss of a key (`mimic`, `also.mimic.NAME`, …) is logged."""
    return key.removeprefix("also.").replace(".", "/")


def followed(mode: cfg.Mode, term: cfg.Mimic | cfg.FeatureLoss, name: str = "student") -> Shares:
    """The networks that a term of a trained network follows: its average, its teachers, or all peers but itself."""
    if isinstance(mode, cfg.Cls):
        return {"average": 1.0}
    if isinstance(mode, cfg.ClsTeacher):
        weights = {one: mode.teachers[one].teacher_weight for one in term.teachers or mode.teachers}
        return {one: weight / sum(weights.values()) for one, weight in weights.items()}
    peers = [peer for peer in network_names(mode) if peer != name]
    return dict.fromkeys(peers, 1 / len(peers))


def pairs(mode: cfg.Mode, term: cfg.Mimic | cfg.FeatureLoss) -> list[tuple[str, str]]:
    """(trained network, network that it follows) of a term."""
    return [(name, peer) for name in network_names(mode) for peer in followed(mode, term, name)]


def with_followed_logits(config: cfg.Config) -> set[str]:
    """The networks whose logits a term follows; of others only features are."""
    return {peer for mimic in config.mimics.values() for _, peer in pairs(config.mode, mimic)}


def compared(mode: cfg.Mode, settings: cfg.FeatureLoss) -> list[str]:
    """The networks of which a feature loss compares layers, each once."""
    return list(dict.fromkeys(network for pair in pairs(mode, settings) for network in pair))


def layers_of(settings: cfg.FeatureLoss, network: str) -> list[str]:
    """The layers that a feature loss compares, of the student or of another network."""
    return settings.layers if network == "student" else settings.peer_layers or settings.layers


def _taps(config: cfg.Config) -> dict[str, list[str]]:
    """Network → the layers that all feature losses compare, each once."""
    taps: dict[str, dict[str, None]] = {}
    for one in config.feature_losses.values():
        for network in compared(config.mode, one):
            taps.setdefault(network, {}).update(dict.fromkeys(layers_of(one, network)))
    return {network: list(layers) for network, layers in taps.items()}


@dataclass
class _Following:
    """Losses of networks that learn from the labels and from peers or teachers."""

    hard: losses.HardLoss
    mimics: dict[str, tuple[cfg.Mimic, mimics.MimicLoss]]
    features: dict[str, tuple[cfg.FeatureLoss, feature_losses.FeatureLoss]]
    mode: cfg.Mode
    steps_per_epoch: int
    adapters: Adapters = field(default_factory=Adapters)

    def __call__(self, outputs: Outputs, labels: Tensor, step: int, name: str) -> Terms:
        """Terms of one network; their gradient reaches no other network unless the config says so."""
        terms = self._hard(outputs, labels, step, name)
        for term in self.mimics:
            terms[f"{term}/{name}"] = self._mimic(outputs, labels, step, name, term)
        return terms | self._features(outputs, step, name)

    def each_other(self, outputs: Outputs, labels: Tensor, step: int) -> list[Terms]:
        """Terms of the student and of each of its peers."""
        return [self(outputs, labels, step, name) for name in network_names(self.mode)]

    def jointly(self, outputs: Outputs, labels: Tensor, step: int) -> list[Terms]:
        """Terms of two networks with one mimic loss whose gradient reaches both, as in the original project.

        Further mimic losses are computed for each network by itself.
        """
        settings, loss = self.mimics["mimic"]
        pair = ("student", "student1")
        student, peer = (outputs[name].logits for name in pair)
        terms: list[Terms] = [self._hard(outputs, labels, step, name) for name in pair]
        terms.append({"mimic/pair": self._factor(settings, step) * loss(student, peer, labels)})
        terms += [
            {f"{term}/{name}": self._mimic(outputs, labels, step, name, term)}
            for name in pair
            for term in self.mimics
            if term != "mimic"
        ]
        return terms + [self._features(outputs, step, name) for name in pair]

    def ramped(self, step: int) -> dict[str, float]:
        """Term → its factor in the step after `step` steps, for ramped terms only."""
        terms = {term: settings for term, (settings, _) in (self.mimics | self.features).items()}  # type: ignore[operator]
        return {term: self._factor(settings, step) for term, settings in terms.items() if settings.ramp.changes}

    def _factor(self, settings: cfg.Mimic | cfg.FeatureLoss, step: int) -> float:
        return settings.weight * settings.ramp.share(step, self.steps_per_epoch)

    def _hard(self, outputs: Outputs, labels: Tensor, step: int, name: str) -> Terms:
        """The loss against labels; with `kd` it is weighted by 1 - α, where α may be ramped."""
        share = 1.0
        for settings, _ in self.mimics.values():
            if isinstance(settings, cfg.Kd):
                share -= settings.alpha * settings.ramp.share(step, self.steps_per_epoch)
        return {f"ce/{name}": share * self.hard(outputs[name].logits, labels)}

    def _mimic(self, outputs: Outputs, labels: Tensor, step: int, name: str, term: str) -> Tensor:
        settings, loss = self.mimics[term]

        def against(peer: str) -> Tensor:
            other = outputs[peer].logits
            return loss(outputs[name].logits, other.detach() if settings.detach_peer else other, labels)

        return self._factor(settings, step) * _mean(against, followed(self.mode, settings, name))

    def _features(self, outputs: Outputs, step: int, name: str) -> Terms:
        """The feature terms of a network, whose gradient reaches no other network; empty without a feature loss."""
        return {f"{term}/{name}": self._feature(outputs, step, name, term) for term in self.features}

    def _feature(self, outputs: Outputs, step: int, name: str, term: str) -> Tensor:
        settings, loss = self.features[term]
        own = {layer: outputs[name].features[layer] for layer in layers_of(settings, name)}

        def against(peer: str) -> Tensor:
            theirs = {layer: outputs[peer].features[layer].detach() for layer in layers_of(settings, peer)}
            return loss(self.adapters.adapted(term, name, peer, own), theirs)

        # Features are float32, and their squares overflow half precision.
        with paddle.amp.auto_cast(enable=False):
            return self._factor(settings, step) * _mean(against, followed(self.mode, settings, name))


def _mean(against: Callable[[str], Tensor], shares: Shares) -> Tensor:
    """The mean of losses against several networks, weighted by their shares."""
    if len(shares) == 1:
        return against(*shares)
    return paddle.add_n([share * against(peer) for peer, share in shares.items()])


def _merge(terms: list[Terms]) -> Terms:
    return {name: value for part in terms for name, value in part.items()}
