"""All weights that the networks of a run begin with, of `checkpoint.init_from` and of `model.weights`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import config as cfg
from ..config import rules
from . import initial, pretrained
from .initial import InitialWeights
from .stage import Stage


@dataclass
class Start:
    """The weights that a run starts from."""

    run: InitialWeights | None
    """What `checkpoint.init_from` names."""
    networks: dict[str, InitialWeights]
    """Network → what its own `weights` name."""

    @property
    def all(self) -> list[InitialWeights]:
        """All of them."""
        return [*([self.run] if self.run else []), *self.networks.values()]


def read(config: cfg.Config) -> Start:
    """What the config names.

    Errors: CheckpointError; ConfigError if nothing is trained and the preprocessing differs.
    """
    return Start(initial.read(config), pretrained.read(config, rules.network_names(config.mode)))


def load(config: cfg.Config, stage: Stage, start: Start | None) -> dict[str, Any]:
    """Load the weights, with their pruned channels, into the networks; returns what was pruned from them.

    Errors: CheckpointError if they do not fit; ConfigError if nothing is trained and part of a network has none.
    """
    classes = stage.loaders.classes
    for one in start.all if start else []:
        stage.notes += initial.leaks(one.weights, stage.loaders.source, stage.content)
        if one.run:
            stage.notes += initial.unrecognised(one.weights, one.run.data, config.data, stage.loaders.source)
    if start and start.networks:
        stage.notes += pretrained.load_into(start.networks, config, stage.networks, classes)
    elif (start is None or start.run is None) and config.compression.prune and not config.compression.prune.begin_epoch:
        stage.notes.append(
            "pruning an untrained network: rankings of random filters are meaningless. Start from a trained run, "
            "checkpoint.init_from=RUN"
        )
    if start is None or start.run is None:
        return {}
    plan, matched = initial.load_into(start.run, config, stage.networks, classes)
    stage.notes += [*start.run.notes, matched]
    return plan
