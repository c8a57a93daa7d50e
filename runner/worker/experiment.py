"""Everything a run needs, built in the one order in which nothing depends on what is built later."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from .. import compression, data, models, parallel
from .. import config as cfg
from ..checkpoints import reading, restore
from ..config import rules
from ..data import seen
from ..data.about import About
from ..errors import ConfigError
from ..kernels import native
from ..kernels.autotune import autotuning_off
from ..models import Freezing
from ..terminal import counted
from ..training import optimizers, schedules, seeding
from ..training.clock import Clock
from ..training.ema import Ema
from ..training.state import Training
from . import checks, distilling, features, finetuning, gradual, initial, starting
from .compress import compress
from .stage import Stage, accelerate, accelerates, prepare, topk
from .starting import Start


@dataclass
class Experiment:
    """A run that is ready to train."""

    config: cfg.Config
    device: str
    """`cpu` or `gpu`."""
    training: Training
    about: About
    """Statistics of its images."""
    notes: list[str] = field(default_factory=list)
    """Notes for the user on how it was built."""
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what was pruned from it, `plan.PruningPlan` as JSON."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """Network → `params`, `macs` of one image and, if some parameters never train, `trainable_params`."""
    trained_on: seen.Keys = seen.NONE
    """The images that its weights have seen when training ends; in the first process."""
    teachers: dict[str, str] = field(default_factory=dict)
    """Teacher → `same_teachers.digest` of it."""

    @property
    def parameters(self) -> str:
        """The tag `parameters`: how many the deployed network has, behind each cut fewer."""
        return str(int(self.costs[self.config.deploy.network]["params"]))


def build(
    config: cfg.Config,
    saved: reading.Saved | None = None,
    ranks: parallel.Ranks = parallel.ALONE,
    listing: Path | None = None,
    whole: bool = True,
) -> Experiment:
    """seed → data → networks → initial weights → prune → quantize → resumed weights → optimizers → resumed state.

    No part depends on one that is built later. With several processes the first one prunes and quantizes, the others
    copy the result; at the end all processes are synchronised. Images that cannot be read are listed in the file
    `listing`. A run that is not `whole` may end before its cuts and ramps do. Errors: ConfigError, DataError or
    CheckpointError, depending on the part that cannot be built.
    """
    rules.check_divisible(config, ranks.world_size)
    started: list[Start] = []
    expected = ranks.broadcast_from_first(lambda: _classes(config, saved, started))
    stage = prepare(config, with_teacher=True, ranks=ranks, expected=expected, listing=listing)
    networks, notes = stage.networks, stage.notes
    plan = _load(config, stage, ranks, saved, next(iter(started), None))
    if isinstance(config.mode, cfg.ClsTeacher):
        for name in config.mode.teachers:
            notes.append(ranks.broadcast_from_first(functools.partial(distilling.teachers_accuracy, stage, name)))
    distilling.add_average(config.mode, networks)
    features.tap(config, stage.mode, networks)
    freezing = finetuning.freeze(config, stage)
    with autotuning_off():
        costs = {name: _costs(config, networks[name], freezing.touches(name)) for name in networks.trained}
    clock = _clock(config.train, saved)
    steps = _steps(config, stage, clock, whole)
    ranks.barrier_without_timeout()
    fused = accelerates(config) and not ranks.any_rank(bool(native.unavailable()))
    optimizations = _optimizations(config, stage, steps, fused, freezing)
    stage.precision.decorate([networks[name] for name in networks.trained], [part.optimizer for part in optimizations])
    training = Training(
        networks=networks,
        mode=stage.mode,
        freezing=freezing,
        optimizations=optimizations,
        precision=stage.precision,
        loaders=stage.loaders,
        settings=config.train,
        checkpoints=config.checkpoint,
        steps=steps,
        k=topk(config.train, len(stage.loaders.classes)),
        metrics=config.metrics(stage.loaders.classes),
        ema=Ema(networks, config.train.ema, config.train.ema_warmup) if config.train.ema else None,
        average=distilling.average(config.mode, networks),
        clock=clock,
        pruner=gradual.begin(config, stage, plan, costs),
        shard=parallel.Shard(ranks),
    )
    notes += checks.metrics(config, training)
    if saved:
        restore.training_state(saved, training)
        notes += _other_length(saved, training, config)
    if ranks.world_size > 1:
        _synchronise(training, config.train, packed=fused)
    freezing.follow(training.progress.step)
    trained_on = _trained_on(stage, config, saved, started) if ranks.is_first else seen.NONE
    return Experiment(config, stage.device, training, stage.about, notes, plan, costs, trained_on, stage.teachers)


def _load(
    config: cfg.Config, stage: Stage, ranks: parallel.Ranks, saved: reading.Saved | None, start: Start | None
) -> dict[str, Any]:
    """Give the networks the structure and weights that training begins with; returns what was pruned from each."""
    networks = stage.networks
    if saved:
        restore.structure(saved, networks, config.compression)
        accelerate(config, networks)
        restore.weights(saved, networks)
        return saved.state.plan
    plan = _initialise(config, stage, ranks, start)
    accelerate(config, networks)
    remedy = "checkpoint.init_from is of a run with other classes: use one with this data's classes."
    if config.compression.prune and config.compression.prune.begin_epoch is None:
        remedy = "compression.prune.skip=[NAME] keeps the filters of the layer that gives the logits."
    for name in networks.trained:
        with autotuning_off():
            models.check_input(networks[name], config.data.input_shape, len(stage.loaders.classes), remedy)
    return plan


def _steps(config: cfg.Config, stage: Stage, clock: Clock | None, whole: bool) -> int:
    """Optimizer steps of the run; where the clock ends it, an estimate.

    Errors: ConfigError for what a `whole` run is too short for.
    """
    train = stage.loaders.train
    steps = config.train.max_steps or config.train.epochs * train.batches_per_epoch
    if clock:
        # The steps in an epoch are known only now.
        return clock.most or max(1, steps)
    if not whole or config.debug.fast_dev_run:
        # Its epochs are like the first ones of a run of unknown length.
        return steps
    train.epochs = math.ceil(steps / train.batches_per_epoch)
    stage.notes += checks.check_length(config, steps, train.batches_per_epoch)
    finetuning.check_length(config, steps, train.batches_per_epoch)
    gradual.check_length(config, steps, train.batches_per_epoch)
    distilling.check_ramps(config, steps, train.batches_per_epoch)
    return steps


def _trained_on(stage: Stage, config: cfg.Config, saved: reading.Saved | None, started: list[Start]) -> seen.Keys:
    """The images that the weights have seen when training ends: those of the run, and of the weights it begins with."""
    earlier = [one.weights.trained_on for start in started for one in start.all]
    if saved:
        earlier.append(saved.trained_on())
    images = seen.NONE
    if config.train.trains:
        images = seen.keys(stage.loaders.source.train, stage.content.get("train"))
    # In the same order whether the run was interrupted or not.
    return sum(filter(None, earlier), images).unique()


def _costs(config: cfg.Config, network: nn.Layer, is_frozen: bool) -> dict[str, float]:
    """What a network costs; if some of its parameters never train, also the number of those that do."""
    costs = {
        "params": float(compression.slim.parameters(network)),
        "macs": float(models.macs(network, config.data.input_shape)),
    }
    trainable = {"trainable_params": float(compression.slim.parameters(network, trainable=True))} if is_frozen else {}
    return costs | trainable


def _clock(settings: cfg.Train, saved: reading.Saved | None) -> Clock | None:
    """The run's time budget, if it has one; time spent before a resumption counts."""
    if settings.max_minutes is None:
        return None
    if saved is None:
        return Clock(settings.max_minutes, most=settings.max_steps)
    clock = Clock(settings.max_minutes, saved.state.seconds, settings.max_steps, reserve=saved.progress.validation_s)
    clock.budget -= saved.state.precomputing_s
    return clock


def _classes(config: cfg.Config, saved: reading.Saved | None, started: list[Start]) -> data.ExpectedClasses | None:
    """The classes that the images must have: those of the weights.

    Weights that are read to find out are kept in `started`.
    """
    if saved:
        return data.ExpectedClasses(saved.state.classes, str(saved.folder))
    started.append(starting.read(config))
    return initial.classes_for(started[0].run, config)


def _initialise(config: cfg.Config, stage: Stage, ranks: parallel.Ranks, start: Start | None) -> dict[str, Any]:
    """Load initial weights, then prune and fake-quantize the networks; returns what was pruned from each."""
    networks = stage.networks

    def first() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plan = starting.load(config, stage, start)
        with autotuning_off():
            plan |= compress(config, stage)
        alone = ranks.world_size == 1
        return plan, {} if alone else {name: value.numpy() for name, value in networks.state_dict().items()}

    plan, arrays = ranks.broadcast_from_first(first)
    if not ranks.is_first:
        restore.load_arrays(arrays, bool(plan), "the first process", networks, config.compression)
    return plan


def _synchronise(training: Training, settings: cfg.Train, packed: bool) -> None:
    """Make the processes of a run train as one: same generators, statistics and steps."""
    ranks, networks = training.ranks, training.networks
    seeding.restore(ranks.broadcast_from_first(seeding.state))
    if settings.sync_batchnorm:
        parallel.synchronize(networks, ranks)
    parallel.share_dropout(networks, training.shard)
    training.replicas = parallel.replicate(
        networks,
        ranks,
        parallel.statistics(networks),
        packed,
        training.freezing.changes or bool(training.pruner),
        list(training.mode.adapters.parameters.values()),
    )


def _other_length(saved: reading.Saved, training: Training, config: cfg.Config) -> list[str]:
    """A note if the run has become longer or shorter since the checkpoint was written."""
    before, now = saved.state.steps, training.steps
    if before == now or training.clock:
        return []
    step, per_epoch = training.progress.step, training.loaders.train.batches_per_epoch
    if now < step:
        raise ConfigError(
            f"The run has already trained {counted(step, 'step')}, more than the {now} of this config. "
            "Raise train.epochs (or train.max_steps), or start another run from its weights: checkpoint.init_from=RUN"
        )
    lr, scores = config.optimizer.lr, saved.progress.scores
    was, is_now = (lr * schedules.factor(config.schedule, step, steps, per_epoch, scores) for steps in (before, now))
    note = f"the run has {counted(now, 'step')} now instead of {before}"
    if was == is_now:
        return [note]
    return [
        f"{note}: the learning rate follows the schedule of that length, {is_now:.3g} instead of {was:.3g} at step "
        f"{step + 1}"
    ]


def _optimizations(
    config: cfg.Config, stage: Stage, steps: int, fused: bool, freezing: Freezing
) -> list[optimizers.Optimization]:
    """An optimizer for each group of networks that has one of its own, with its schedule."""
    chosen = [("optimizer", config.optimizer, config.schedule)]
    if isinstance(config.mode, cfg.ClsDistillMultiopt):
        own = config.mode.peer_optimizer
        key = "mode.peer_optimizer" if own else "optimizer"
        peers = (key, own or config.optimizer, config.mode.peer_schedule or config.schedule)
        chosen += [peers] * (config.mode.peers - 1)
    quantization, per_epoch = config.compression.quantize, stage.loaders.train.batches_per_epoch
    return [
        optimizers.build(
            optimizer, schedule, {name: stage.networks[name] for name in names}, steps, per_epoch, quantization, fused,
            finetuning.factors(config, optimizer, key, stage, names, freezing), stage.mode.adapters.of(names),
        )
        for names, (key, optimizer, schedule) in zip(stage.mode.owners, chosen, strict=True)
    ]  # fmt: skip
