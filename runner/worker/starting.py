"""All weights that the networks of a run begin with, of `checkpoint.init_from` and of `model.weights`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import config as cfg
from ..config import rules
from ..data import listed
from ..errors import ConfigError
from . import finetuning, initial, pretrained
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
    states = {name: stage.networks[name].state_dict() for name in stage.networks.trained}
    random = {name: {f"{name}.{key}" for key in own} for name, own in states.items()}
    if start and start.networks:
        notes, left = pretrained.load_into(start.networks, config, stage.networks, classes)
        stage.notes += notes
        random |= left
    elif (start is None or start.run is None) and config.compression.prune and not config.compression.prune.begin_epoch:
        stage.notes.append(
            "pruning an untrained network: rankings of random filters are meaningless. Start from a trained run, "
            "checkpoint.init_from=RUN"
        )
    plan: dict[str, Any] = {}
    if start and start.run:
        plan, loaded = initial.load_into(start.run, config, stage.networks, classes)
        stage.notes += [*start.run.notes, loaded.line]
        random = {name: own & loaded.random for name, own in random.items()}
    stage.notes += _twins(stage)
    for name, own in random.items():
        _check_random(config, stage, name, own)
    return plan


def _check_random(config: cfg.Config, stage: Stage, name: str, random: set[str]) -> None:
    """A note on a network that is frozen as it was initialised.

    `random`: what keeps its initial values, as in `fitting.Loaded`. Errors: ConfigError if some of a network that was
    given weights is random and would never be trained.
    """
    network, model = stage.networks[name], cfg.model_of(config, name)
    given = len(random) < len(network.state_dict())
    part = finetuning.frozen_part(config, stage, name)
    frozen = {f"{name}.{key}" for key in part.parameters} if part and model.freeze_epochs is None else set[str]()
    stuck = random if not config.train.trains else random & frozen
    if not stuck:
        return
    some = listed(sorted(one.partition(".")[2] for one in stuck), 3)
    if not given:
        if config.train.trains:
            stage.notes.append(
                f"{some} of {name} are random and frozen, so they stay as they are. model.weights=imagenet begins "
                "with trained ones"
            )
        return
    why, remedy = "nothing is trained here", "Train it (train.epochs=10)"
    if config.train.trains:
        why, remedy = f"{finetuning.freeze_key(config, name)}={model.freeze}", "Freeze something else"
    raise ConfigError(
        f"{some} of {name} would stay random: the weights have no values that fit, and {why}. {remedy}, or give "
        "weights of the same network and classes."
    )


def _twins(stage: Stage) -> list[str]:
    """A note for networks that learn from each other and begin with equal weights."""
    equal: list[list[str]] = []
    for name in stage.networks.trained:
        group = next((group for group in equal if _are_equal(stage, group[0], name)), None)
        if group:
            group.append(name)
        else:
            equal.append([name])
    return [
        f"{', '.join(group[:-1])} and {group[-1]} begin with equal weights: they have nothing to learn from each "
        "other, and stay equal unless their optimizers or dropout differ. model@mode.peer=NAME begins with weights of "
        "its own"
        for group in equal
        if len(group) > 1
    ]


def _are_equal(stage: Stage, one: str, other: str) -> bool:
    own, theirs = stage.networks[one].state_dict(), stage.networks[other].state_dict()
    return own.keys() == theirs.keys() and all(np.array_equal(own[key].numpy(), theirs[key].numpy()) for key in own)
