"""Fine-tuning: what is frozen, and what has a smaller learning rate than the rest."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .. import config as cfg
from ..compression import slim
from ..config import rules
from ..errors import ConfigError
from ..models import Freezing, Frozen, parts
from ..models.parts import Part
from ..terminal import counted
from . import initial
from .stage import Stage


def freeze(config: cfg.Config, stage: Stage) -> Freezing:
    """Freeze what the config names for the whole run; `Freezing.follow` freezes what is frozen only for some epochs.

    Errors: ConfigError for patterns that match nothing, and for a network of which nothing would train.
    """
    frozen: list[Frozen] = []
    networks, steps_per_epoch = stage.networks, stage.loaders.train.batches_per_epoch
    for name in networks.trained:
        part = frozen_part(config, stage, name)
        if part is None:
            continue
        key, network, model = freeze_key(config, name), networks[name], cfg.model_of(config, name)
        until = None if model.freeze_epochs is None else max(1, round(model.freeze_epochs * steps_per_epoch))
        if not any(not one.stop_gradient for key, one in network.named_parameters() if key not in part.parameters):
            raise ConfigError(
                f"{key}={model.freeze}: nothing of {name} would train. Freeze less, such as {key}=backbone; a network "
                "that only teaches is the teacher of mode=cls_teacher."
            )
        count = sum(one.size for key, one in part.parameters.items() if not slim.is_quantization(key))
        when = ""
        if until is not None:
            when = f" for {counted(until, 'step')} ({counted(model.freeze_epochs or 0, 'epoch')})"
        stage.notes.append(f"frozen{when}: {count:,} of {slim.parameters(network):,} parameters of {name}")
        frozen.append(Frozen(name, part, until))
    return Freezing(networks, frozen)


def frozen_part(config: cfg.Config, stage: Stage, name: str) -> Part | None:
    """What a network's config freezes, for a while or for the whole run. Errors: ConfigError as in `freeze`."""
    patterns = cfg.model_of(config, name).freeze
    if not patterns:
        return None
    return parts.choose(stage.networks[name], patterns, _head(config, stage, name, patterns), freeze_key(config, name))


def check_length(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    """Errors: ConfigError if the run ends before temporarily frozen parts would begin to train."""
    if not steps:
        return
    for name in rules.network_names(config.mode):
        epochs, key = cfg.model_of(config, name).freeze_epochs, freeze_key(config, name)
        if epochs is not None and round(epochs * steps_per_epoch) >= steps:
            raise ConfigError(
                f"{key}_epochs={epochs:g}: the run of {counted(steps, 'step')} ({steps_per_epoch} an epoch) ends "
                f"before that. Lower it, or remove it to keep {key} frozen to the end."
            )


def never_trained(config: cfg.Config, freezing: Freezing, steps: int) -> list[str]:
    """A note for each network of which a temporarily frozen part did not train in a run of this many steps.

    None for a run that should not train, or that only tries everything.
    """
    if not config.train.trains or config.debug.fast_dev_run:
        return []
    return [
        f"frozen parts of {name} never trained: the run ended before {freeze_key(config, name)}_epochs. Lower it, or "
        "train longer"
        for name in freezing.waiting(steps)
    ]


def factors(
    config: cfg.Config, optimizer: cfg.Optimizer, key: str, stage: Stage, names: Sequence[str], freezing: Freezing
) -> dict[str, float]:
    """Structured parameter name → factor of the learning rate, for the networks of the optimizer that `key` names.

    Patterns may match what is frozen, also for the whole run: a factor is of what trains. Errors: ConfigError for a
    pattern that matches nothing in any of them.
    """
    decayed = _by_depth(config, optimizer.layer_decay, stage, names) if optimizer.layer_decay else {}
    scales: dict[str, float] = {}
    for pattern, factor in optimizer.lr_scale.items():
        refusals: list[ConfigError] = []
        for name in names:
            head = _head(config, stage, name, [pattern])
            try:
                part = parts.choose(stage.networks[name], [pattern], head, f"{key}.lr_scale", freezing.parameters(name))
            except ConfigError as error:
                refusals.append(error)
            else:
                scales |= dict.fromkeys((f"{name}.{one}" for one in part.parameters), factor)
        if len(refusals) == len(names):
            raise refusals[0]
    return decayed | {name: factor * decayed.get(name, 1.0) for name, factor in scales.items()}


def _by_depth(config: cfg.Config, decay: float, stage: Stage, names: Sequence[str]) -> dict[str, float]:
    """Structured parameter name → the decay to the power of the number of blocks after its own."""
    factors: dict[str, float] = {}
    is_trained = config.checkpoint.init_from or config.model.weights
    random = "" if is_trained else ", although its weights are random: model.weights=imagenet begins with trained ones"
    for name in names:
        depths, count = parts.depths(stage.networks[name])
        factors |= {f"{name}.{one}": decay ** (count - 1 - depth) for one, depth in depths.items()}
        stage.notes.append(
            f"layer decay: {name} has {count} blocks, and the first one has {decay ** (count - 1):.3g} of the last "
            f"one's learning rate{random}"
        )
    return factors


def freeze_key(config: cfg.Config, network: str) -> str:
    """The config key that says which parts of a network are frozen."""
    is_own = isinstance(config.mode, cfg.ClsDistill) and config.mode.peer and network != "student"
    return "mode.peer.freeze" if is_own else "model.freeze"


def _head(config: cfg.Config, stage: Stage, name: str, patterns: Sequence[str]) -> Collection[str]:
    """The parameters of a network's head, if a pattern refers to it."""
    wanted = {parts.HEAD, parts.BACKBONE} & set(patterns)
    return initial.head(config, name, len(stage.loaders.classes)) if wanted else set()
