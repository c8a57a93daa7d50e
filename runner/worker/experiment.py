"""Everything one run needs, built in the one right order."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from paddle import Tensor

from .. import compression, data, device, models, parallel, terminal
from .. import config as cfg
from ..checkpoints import checkpoint, restore
from ..config import rules
from ..config.monitor import is_known, metrics_of, refusal
from ..data import about as about_data
from ..data import check
from ..data.about import About
from ..errors import ConfigError, DataError
from ..kernels import native
from ..kernels.accelerate import accelerate as accelerate_network
from ..kernels.autotune import autotuning_off
from ..metrics import HEADLINE
from ..models import Networks
from ..runs.protocol import Heartbeat
from ..training import modes, optimizers, precision, schedules, seeding
from ..training.ema import Ema
from ..training.evaluation import evaluate, try_metrics
from ..training.state import Training
from . import features, initial, teacher

#: Batches that the statistics of normalisation layers are measured on after pruning.
STATISTICS_BATCHES = 32
#: Images that a teacher is tried on before it teaches.
TEACHERS_IMAGES = 1024


@dataclass
class Experiment:
    """A run that is ready to train."""

    config: cfg.Config
    device: str
    """`cpu` or `gpu`."""
    training: Training
    about: About
    """Its images in numbers."""
    notes: list[str] = field(default_factory=list)
    """What a person should know about how it was built."""
    plan: dict[str, Any] = field(default_factory=dict)
    """Network → what pruning did to it, `pruning.Plan` as JSON."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """Network → `params` (trainable numbers) and `macs` of one image."""


@dataclass
class Stage:
    """What training and evaluation have in common: images and networks, with initial weights."""

    device: str
    """`cpu` or `gpu`."""
    loaders: data.Loaders
    about: About
    """The images in numbers."""
    mode: modes.Mode
    networks: Networks
    precision: precision.Precision
    notes: list[str]


def build(
    config: cfg.Config,
    saved: checkpoint.Saved | None = None,
    ranks: parallel.Ranks = parallel.ALONE,
    listing: Path | None = None,
) -> Experiment:
    """seed → data → networks → initial weights → prune → quantize → resumed weights → optimizers → resumed state.

    Nothing is built on what a later part changes. Of several processes the first one prunes and quantizes, the others
    take over what came of it; at last all of them are tied together. Images that cannot be read are listed in the file
    `listing`. Errors: ConfigError, DataError or CheckpointError, whichever part cannot be had.
    """
    rules.check_divisible(config, ranks.world_size)
    started: list[initial.Initial | None] = []
    known = ranks.broadcast_from_first(lambda: _classes(config, saved, started))
    stage = prepare(config, with_teacher=True, ranks=ranks, known=known, listing=listing)
    networks, loaders, notes = stage.networks, stage.loaders, stage.notes
    if saved:
        restore.structure(saved, networks, config.compression)
        accelerate(config, networks)
        restore.weights(saved, networks)
        plan = saved.state.plan
    else:
        plan = _begin(config, stage, ranks, next(iter(started), None))
        accelerate(config, networks)
        for name in networks.trained:
            remedy = "checkpoint.init_from is of a run with other classes: take one with those of this data."
            if config.compression.prune:
                remedy = "compression.prune.skip=[NAME] keeps the filters of the layer that gives the logits."
            with autotuning_off():
                models.check_input(networks[name], config.data.input_shape, len(loaders.classes), remedy)
    if isinstance(config.mode, cfg.ClsTeacher):
        notes.append(ranks.broadcast_from_first(lambda: _teachers_accuracy(stage)))
    features.tap(config, stage.mode, networks)
    with autotuning_off():
        costs = {
            name: {
                "params": float(compression.slim.parameters(networks[name])),
                "macs": float(models.macs(networks[name], config.data.input_shape)),
            }
            for name in networks.trained
        }
    steps_per_epoch = loaders.train.batches_per_epoch
    steps = config.train.max_steps or config.train.epochs * steps_per_epoch
    _check_warmups(config, steps, steps_per_epoch)
    ranks.barrier_without_timeout()
    fused = _accelerates(config) and not ranks.any_rank(bool(native.unavailable()))
    optimizations = _optimizations(config, stage.mode, networks, steps, steps_per_epoch, fused)
    stage.precision.decorate([networks[name] for name in networks.trained], [part.optimizer for part in optimizations])
    training = Training(
        networks=networks,
        mode=stage.mode,
        optimizations=optimizations,
        precision=stage.precision,
        loaders=loaders,
        settings=config.train,
        checkpoints=config.checkpoint,
        steps=steps,
        k=min(config.train.topk, len(loaders.classes)),
        metrics=metrics_of(config.train.metrics),
        ema=Ema(networks, config.train.ema) if config.train.ema else None,
        shard=parallel.Shard(ranks),
    )
    _check_metrics(config, training)
    if saved:
        restore.training_state(saved, training)
        notes += _other_length(saved, training, config)
    if ranks.world_size > 1:
        _tie(training, config.train, packed=fused)
    return Experiment(config, stage.device, training, stage.about, notes, plan, costs)


def _classes(
    config: cfg.Config, saved: checkpoint.Saved | None, started: list[initial.Initial | None]
) -> data.Known | None:
    """The classes that the images must have: those of the weights. Weights that are read for that are `started`."""
    if saved:
        return data.Known(saved.state.classes, str(saved.folder))
    started.append(initial.read(config))
    return initial.classes_for(started[0], config)


def _begin(config: cfg.Config, stage: Stage, ranks: parallel.Ranks, start: initial.Initial | None) -> dict[str, Any]:
    """Give the networks initial weights, fewer channels and simulated integers. What was pruned."""
    networks = stage.networks

    def first() -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        plan = _initial_weights(config, stage, start)
        with autotuning_off():
            plan |= _compress(config, stage)
        alone = ranks.world_size == 1
        return plan, {} if alone else {name: value.numpy() for name, value in networks.state_dict().items()}

    plan, arrays = ranks.broadcast_from_first(first)
    if not ranks.is_first:
        restore.take_over(arrays, bool(plan), "the first process", networks, config.compression)
    return plan


def _tie(training: Training, settings: cfg.Train, packed: bool) -> None:
    """Make the processes of a run train as one: same generators, statistics and steps."""
    ranks, networks = training.ranks, training.networks
    seeding.restore(ranks.broadcast_from_first(seeding.state))
    if settings.sync_batchnorm:
        parallel.synchronize(networks, ranks)
    parallel.share_dropout(networks, training.shard)
    training.replicas = parallel.replicate(networks, ranks, parallel.statistics(networks), packed)


def prepare(
    config: cfg.Config,
    with_teacher: bool,
    ranks: parallel.Ranks = parallel.ALONE,
    known: data.Known | None = None,
    listing: Path | None = None,
) -> Stage:
    """seed → data → networks. Errors as in `build`.

    The frozen teacher of `cls_teacher` is needed for training only, and only then all images are looked at. `known` are
    the classes of the weights to come.
    """
    place = device.choose(config.train, config.amp, config.launch.devices)
    notes: list[str] = []
    seeding.seed(config.train.seed)
    source, about = _checked(data.load(config.data, known), config.data, with_teacher, ranks, listing, notes)
    overfit = config.debug.overfit_batches
    loaders = data.build(config.data, config.train.seed, overfit, ranks.rank, ranks.world_size, source=source)
    notes += loaders.notes
    mode = modes.build(config)
    networks = _networks(config, mode, loaders, notes, ranks if with_teacher else None)
    if with_teacher:
        features.check(config, mode, networks)
    casting = precision.build(config.amp, place)
    if casting.fell_back:
        notes.append(f"amp={config.amp.kind} fell back to float32: this device has no mixed precision")
    stage = Stage(place, loaders, about, mode, networks, casting, notes)
    for name in networks:
        models.check_input(networks[name], config.data.input_shape, len(loaders.classes))
    if _accelerates(config) and (reason := native.unavailable()):
        notes.append(f"no compiled kernels, so training is several times slower than it could be: {reason}")
    accelerate(config, networks)
    return stage


def _checked(
    source: data.Source, config: cfg.Data, closely: bool, ranks: parallel.Ranks, listing: Path | None, notes: list[str]
) -> tuple[data.Source, About]:
    """The images that can be read, and what is known of them: the first process looks, the others hear of it.

    Errors: DataError that names all that cannot be read, where they are not to be left out.
    """
    may_skip = isinstance(config, cfg.Pictures) and config.on_error is cfg.OnError.skip

    def first() -> tuple[list[check.Broken], About]:
        looked = check.Looked.nothing(source)
        if closely or may_skip:
            heartbeat = Heartbeat()
            with terminal.progress("checking images") as show:

                def tell(done: int, count: int) -> None:
                    heartbeat.beat()
                    show(done, count)

                looked = check.look(source, config, tell=tell)
        if looked.broken and listing:
            check.write(looked, listing)
        if looked.broken and not may_skip:
            raise DataError(check.refusal(looked, source.name, listing))
        return looked.broken, about_data.of(check.without(source, looked.broken), looked.without_broken(), config)[0]

    broken, about = ranks.broadcast_from_first(first)
    if about.overlaps:
        texts = "; ".join(overlap.brief() for overlap in about.overlaps)
        notes.append(f"duplicates: {texts} (`python -m runner data …` shows them)")
    return check.without(source, broken), about


def _accelerates(config: cfg.Config) -> bool:
    return device.is_cpu() and config.train.accelerate is cfg.Accelerate.auto


def accelerate(config: cfg.Config, networks: Networks) -> None:
    """Compute slow layers in a faster way where the config allows it; once more after quantization made new ones."""
    if _accelerates(config):
        for name in networks:
            accelerate_network(networks[name], config.data.input_shape)


def _initial_weights(config: cfg.Config, stage: Stage, start: initial.Initial | None) -> dict[str, Any]:
    """Take over the weights, and the channels, that the config names. What was pruned of them."""
    if start is None:
        if config.compression.prune:
            stage.notes.append(
                "pruning ranks random weights, which says nothing about the trained network: begin with a trained run, "
                "checkpoint.init_from=RUN"
            )
        return {}
    plan, matched = initial.give(start, config, stage.networks, stage.loaders.classes)
    stage.notes += [*start.notes, matched]
    return plan


def _compress(config: cfg.Config, stage: Stage) -> dict[str, Any]:
    """Prune the trained networks, then simulate integers in them, as the config asks. What was pruned."""
    plan: dict[str, Any] = {}
    settings, loaders = config.compression, stage.loaders
    if settings.kind != "none":
        compression.slim.check_versions()
    for name in stage.networks.trained:
        network = stage.networks[name]
        if settings.prune:
            _, batches = _sample(loaders, settings.prune.sensitivity_images)
            accuracy = functools.partial(_accuracy, stage, name, batches)
            pruned = compression.pruning.prune(network, settings.prune, config.data.input_shape, accuracy)
            stage.notes.append(f"pruned {name}: {pruned}")
            plan[name] = pruned.as_json()
            compression.pruning.restore_statistics(network, calibration_images(loaders, STATISTICS_BATCHES))
        if isinstance(settings.quantize, cfg.TrainedQuantization):
            images = calibration_images(loaders, settings.quantize.calibration_batches)
            compression.qat.quantize_and_calibrate(
                network, settings.quantize, images, trained=config.checkpoint.init_from is not None
            )
        elif settings.quantize:
            # What cannot be quantized at the end is refused now.
            compression.ranges.quantizable(network, settings.quantize)
    return plan


def calibration_images(loaders: data.Loaders, batches: int) -> Iterator[Tensor]:
    """Training images as an evaluation sees them, in the order of the first epoch: float32 [n, C, H, W] a batch."""
    return (batch.images for batch in itertools.islice(loaders.train.unchanged(), batches))


def _teachers_accuracy(stage: Stage) -> str:
    """What a person should see before a student learns from it: a teacher of other images knows nothing of these."""
    split, batches = _sample(stage.loaders, TEACHERS_IMAGES)
    accuracy = _accuracy(stage, "teacher", batches)
    count, every = len(batches.split), len(stage.loaders.source.splits[split])
    of = f"{count:,} of {every:,}" if count < every else f"{every:,}"
    return f"teacher: {HEADLINE.title} {accuracy:.4f} on {of} images of {split}"


def _sample(loaders: data.Loaders, images: int) -> tuple[str, data.EvalLoader]:
    """(split, its batches): images from all over the validation split, or where none is, of training.

    The first ones would be of the first classes alone, since folders are read class by class.
    """
    name = "val" if loaders.val else "train"
    split = loaders.source.splits[name]
    count = min(images, len(split))
    return name, data.EvalLoader(split.select(np.arange(count) * len(split) // count), loaders.train.config)


def _accuracy(stage: Stage, name: str, batches: Iterable[data.Batch]) -> float:
    """Top-1 of one network."""
    evaluation = evaluate(Networks({name: stage.networks[name]}), batches, stage.precision, 1, metrics=[HEADLINE])
    return evaluation.values[f"{name}/{HEADLINE.name}"]


def _other_length(saved: checkpoint.Saved, training: Training, config: cfg.Config) -> list[str]:
    """A note where the run has become longer or shorter than it was when the checkpoint was written."""
    before, now = saved.state.steps, training.steps
    if before == now:
        return []
    step, per_epoch = training.progress.step, training.loaders.train.batches_per_epoch
    if now < step:
        raise ConfigError(
            f"The run has {step} steps behind it already, and {now} are wanted. Raise train.epochs (or "
            "train.max_steps), or start another run from its weights: checkpoint.init_from=RUN"
        )
    lr = config.optimizer.lr
    was, is_now = (lr * schedules.factor(config.schedule, step, steps, per_epoch) for steps in (before, now))
    return [
        f"the run has {now} steps now instead of {before}: the learning rate follows the schedule of that length, "
        f"{is_now:.3g} instead of {was:.3g} at step {step + 1}"
    ]


def _networks(
    config: cfg.Config, mode: modes.Mode, loaders: data.Loaders, notes: list[str], ranks: parallel.Ranks | None
) -> Networks:
    """The networks of a mode; without `ranks`, those that it trains."""
    classes = len(loaders.classes)
    trained = {
        name: models.build(models.model_of(config, name), classes, config.data.channels) for name in mode.networks
    }
    if ranks and isinstance(config.mode, cfg.ClsTeacher):
        teacher_weights = ranks.broadcast_from_first(functools.partial(teacher.read, config.mode, config))
        frozen = teacher.build(config.mode, config, loaders.classes, notes, teacher_weights)
        return Networks(trained, {"teacher": frozen})
    return Networks(trained)


def _optimizations(
    config: cfg.Config, mode: modes.Mode, networks: Networks, steps: int, steps_per_epoch: int, fused: bool
) -> list[optimizers.Optimization]:
    chosen = [(config.optimizer, config.schedule)]
    if isinstance(config.mode, cfg.ClsDistillMultiopt):
        chosen.append((config.mode.peer_optimizer or config.optimizer, config.mode.peer_schedule or config.schedule))
    quantize = config.compression.quantize
    pact = quantize.pact if isinstance(quantize, cfg.TrainedQuantization) else None
    return [
        optimizers.build(
            optimizer, schedule, {name: networks[name] for name in names}, steps, steps_per_epoch, pact, fused
        )
        for names, (optimizer, schedule) in zip(mode.owners, chosen, strict=True)
    ]


def _check_warmups(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    peer = config.mode.peer_schedule if isinstance(config.mode, cfg.ClsDistillMultiopt) else None
    for key, schedule in (("schedule", config.schedule), ("mode.peer_schedule", peer)):
        if (
            not isinstance(schedule, (cfg.CosineWarmup, cfg.ExponentialWarmup))
            or config.debug.fast_dev_run
            or not steps
        ):
            continue
        if round(schedule.warmup_epochs * steps_per_epoch) >= steps:
            raise ConfigError(
                f"{key}.warmup_epochs={schedule.warmup_epochs}: the warm-up is not shorter than the run of {steps} "
                f"steps ({steps_per_epoch} an epoch). Lower it, such as {key}.warmup_epochs=0"
            )


def _check_metrics(config: cfg.Config, training: Training) -> None:
    """Errors: ConfigError for a monitored metric that there is not, and for one of the user's that fails."""
    train, networks = config.train, training.networks.trained
    training.ranks.broadcast_from_first(lambda: try_metrics(training.metrics, len(training.loaders.classes)))
    if training.loaders.val is None:
        if train.patience:
            raise ConfigError(
                "train.patience needs a validation split: hold one out, such as data.val_fraction=0.1, or drop it."
            )
    elif not is_known(train.monitor, networks, training.metrics, training.k):
        raise ConfigError(refusal(train.monitor, networks, training.metrics, training.k))
