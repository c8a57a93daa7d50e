"""What the outputs of the networks mean: one loss, a dict of named terms, for each optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from paddle import Tensor

from .. import config as cfg
from . import losses

#: Network name → logits float [N, K].
Logits = dict[str, Tensor]
#: Term name (`ce/student`, `mimic/student`, …) → scalar.
Terms = dict[str, Tensor]


@dataclass
class Mode:
    """The answer of a mode to: which networks are trained, which optimizer owns which, what does each minimise."""

    owners: list[list[str]]
    """Names of the networks that each optimizer owns."""
    losses: Callable[[Logits, Tensor], list[Terms]]
    """(logits, labels int64 [N]) → the terms of each optimizer's loss, which is their sum."""

    @property
    def networks(self) -> list[str]:
        """Names of all trained networks."""
        return [name for names in self.owners for name in names]


def build(config: cfg.Config) -> Mode:
    """The mode that the config chooses."""
    hard = losses.build(config.loss)
    match config.mode, config.mimic:
        case cfg.Cls(), _:
            return Mode([["student"]], lambda logits, labels: [{"ce/student": hard(logits["student"], labels)}])
        case cfg.ClsTeacher(), cfg.Mimic() as mimic:
            follow = _Following(hard, mimic)
            return Mode([["student"]], lambda logits, labels: [follow(logits, labels, "student", "teacher")])
        case cfg.ClsDistillMultiopt(), cfg.Mimic() as mimic:
            follow = _Following(hard, mimic)
            return Mode([["student"], ["student1"]], follow.each_other)
        case cfg.ClsDistill(), cfg.Mimic() as mimic:
            follow = _Following(hard, mimic)
            joint = isinstance(mimic, cfg.JsOriginal) and not mimic.detach_peer
            both = follow.jointly if joint else follow.each_other
            return Mode([["student", "student1"]], lambda logits, labels: [_merge(both(logits, labels))])
    raise AssertionError(config.mode)


@dataclass
class _Following:
    """Losses of networks that learn from the labels and from a peer."""

    hard: losses.HardLoss
    config: cfg.Mimic

    def __post_init__(self) -> None:
        self.mimic = losses.build_mimic(self.config)
        self.hard_share = 1 - self.config.alpha if isinstance(self.config, cfg.Kd) else 1.0

    def __call__(self, logits: Logits, labels: Tensor, name: str, peer: str) -> Terms:
        """Terms of one network; no gradient reaches the peer unless the config says so."""
        mimic = self.mimic(logits[name], logits[peer].detach() if self.config.detach_peer else logits[peer])
        return {
            f"ce/{name}": self.hard_share * self.hard(logits[name], labels),
            f"mimic/{name}": self.config.weight * mimic,
        }

    def each_other(self, logits: Logits, labels: Tensor) -> list[Terms]:
        """Terms of the student and of its peer."""
        return [self(logits, labels, "student", "student1"), self(logits, labels, "student1", "student")]

    def jointly(self, logits: Logits, labels: Tensor) -> list[Terms]:
        """Terms with one mimic loss over the pair whose gradient reaches both networks, as the original had it."""
        hard = {f"ce/{name}": self.hard_share * self.hard(logits[name], labels) for name in ("student", "student1")}
        return [hard, {"mimic/pair": self.config.weight * self.mimic(logits["student"], logits["student1"])}]


def _merge(terms: list[Terms]) -> Terms:
    return {name: value for part in terms for name, value in part.items()}
