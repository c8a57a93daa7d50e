"""Everything one run needs, built in the one right order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import paddle
from paddle import nn

from . import checkpoint, data, models, modes, optimizers, precision, seeding
from . import config as cfg
from .config import store
from .ema import Ema
from .errors import CheckpointError, ConfigError
from .journal import CONFIG
from .loop import Training
from .models import Networks


@dataclass
class Experiment:
    """A run that is ready to train."""

    config: cfg.Config
    device: str
    """`cpu` or `gpu`."""
    training: Training
    notes: list[str] = field(default_factory=list)
    """What a person should know about how it was built."""

    @property
    def parameters(self) -> int:
        """Trainable parameters of the student."""
        return sum(p.size for p in self.training.networks["student"].parameters() if not p.stop_gradient)


def build(config: cfg.Config) -> Experiment:
    """seed → data → networks → initial weights → optimizers: nothing is built on what a later part changes.

    Errors: ConfigError, DataError or CheckpointError, whichever part cannot be had.
    """
    device = choose_device(config.train)
    notes: list[str] = []
    seeding.seed(config.train.seed)
    loaders = data.build(config.data, config.train.seed, overfit_batches=config.debug.overfit_batches)
    mode = modes.build(config)
    networks = _networks(config, mode, loaders, notes)
    if device == "cpu" and config.train.accelerate is cfg.Accelerate.auto:
        for name in networks:
            models.accelerate(networks[name])
    for name in networks:
        models.check_input(networks[name], config.data.image_size, len(loaders.classes))
    if config.checkpoint.init_from:
        weights = checkpoint.read_weights(config.checkpoint.init_from)
        notes.append(checkpoint.initialize(networks, networks.trained, weights, config.checkpoint.strict))
    casting = precision.build(config.amp, device)
    if casting.fell_back:
        notes.append(f"amp={config.amp.kind} fell back to float32: this device has no mixed precision")
    steps_per_epoch = loaders.train.batches_per_epoch
    steps = config.train.max_steps or config.train.epochs * steps_per_epoch
    _check_warmups(config, steps, steps_per_epoch)
    optimizations = _optimizations(config, mode, networks, steps, steps_per_epoch)
    casting.decorate([networks[name] for name in networks.trained], [part.optimizer for part in optimizations])
    training = Training(
        networks=networks,
        mode=mode,
        optimizations=optimizations,
        precision=casting,
        loaders=loaders,
        settings=config.train,
        steps=steps,
        k=min(config.train.topk, len(loaders.classes)),
        ema=Ema(networks, config.train.ema) if config.train.ema else None,
    )
    _check_monitor(config, training)
    return Experiment(config, device, training, notes)


def choose_device(config: cfg.Train) -> str:
    """Set Paddle's device and threads; returns `cpu` or `gpu`.

    Errors: ConfigError where a GPU is asked for and there is none.
    """
    available = paddle.device.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0
    if config.device is cfg.Device.gpu and not available:
        raise ConfigError(
            "train.device=gpu: this Paddle sees no GPU. Install paddlepaddle-gpu (see the README), or use "
            "train.device=cpu."
        )
    device = "gpu" if available and config.device is not cfg.Device.cpu else "cpu"
    paddle.device.set_device(device)
    paddle.base.core.set_num_threads(config.threads or os.cpu_count() or 1)
    return device


def _networks(config: cfg.Config, mode: modes.Mode, loaders: data.Loaders, notes: list[str]) -> Networks:
    classes = len(loaders.classes)
    peer = config.mode.peer if isinstance(config.mode, cfg.ClsDistill) else None
    trained = {
        name: models.build(config.model if name == "student" else peer or config.model, classes)
        for name in mode.networks
    }
    frozen = (
        {"teacher": _teacher(config.mode, config, classes, notes)} if isinstance(config.mode, cfg.ClsTeacher) else {}
    )
    return Networks(trained, frozen)


def _teacher(mode: cfg.ClsTeacher, config: cfg.Config, classes: int, notes: list[str]) -> nn.Layer:
    """A network with the weights of a trained one. Errors: CheckpointError or ConfigError where it cannot be had."""
    weights = checkpoint.read_weights(mode.teacher_from)
    name, prefix = mode.teacher_network, f"{mode.teacher_network}."
    held = {key.partition(".")[0] for key in weights.arrays} & {"student", "student1"}
    if held and name not in held:
        raise CheckpointError(
            f"mode.teacher_network={name}: {weights.origin} has no such network. It has: {', '.join(sorted(held))}"
        )
    network = models.build(_teacher_model(mode, config), classes)
    if held:
        chosen = {key: value for key, value in weights.arrays.items() if key.startswith(prefix)}
    else:
        chosen = {f"{prefix}{key}": value for key, value in weights.arrays.items()}
    summary = checkpoint.initialize(
        Networks({name: network}),
        (name,),
        checkpoint.Weights(weights.origin, chosen),
        strict=True,
        remedy="The teacher needs the architecture and classes it was trained with: model@mode.teacher=…",
    )
    notes.append(f"teacher: {summary}")
    return network


def _teacher_model(mode: cfg.ClsTeacher, config: cfg.Config) -> cfg.Model:
    """The architecture that the config names, else that of the teacher's run, else the student's."""
    stored = Path(mode.teacher_from) / CONFIG
    if mode.teacher is not None or not stored.is_file():
        return mode.teacher or config.model
    run = store.read(stored)
    peer = run.mode.peer if isinstance(run.mode, cfg.ClsDistill) and mode.teacher_network == "student1" else None
    model = peer or run.model
    if isinstance(model, cfg.CustomModel) and not mode.trust:
        raise ConfigError(
            f"{mode.teacher_from} was trained with a model of its own, {model.target}, which would be imported and "
            "called. If you trust whoever made that run: mode.trust=true"
        )
    return model


def _optimizations(
    config: cfg.Config, mode: modes.Mode, networks: Networks, steps: int, steps_per_epoch: int
) -> list[optimizers.Optimization]:
    chosen = [(config.optimizer, config.schedule)]
    if isinstance(config.mode, cfg.ClsDistillMultiopt):
        chosen.append((config.mode.peer_optimizer or config.optimizer, config.mode.peer_schedule or config.schedule))
    return [
        optimizers.build(optimizer, schedule, {name: networks[name] for name in names}, steps, steps_per_epoch)
        for names, (optimizer, schedule) in zip(mode.owners, chosen, strict=True)
    ]


def _check_warmups(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    peer = config.mode.peer_schedule if isinstance(config.mode, cfg.ClsDistillMultiopt) else None
    for key, schedule in (("schedule", config.schedule), ("mode.peer_schedule", peer)):
        if not isinstance(schedule, (cfg.CosineWarmup, cfg.ExponentialWarmup)) or config.debug.fast_dev_run:
            continue
        if round(schedule.warmup_epochs * steps_per_epoch) >= steps:
            raise ConfigError(
                f"{key}.warmup_epochs={schedule.warmup_epochs}: the warm-up is not shorter than the run of {steps} "
                f"steps ({steps_per_epoch} an epoch). Lower it, such as {key}.warmup_epochs=0"
            )


def _check_monitor(config: cfg.Config, training: Training) -> None:
    if training.loaders.val is None:
        if config.train.patience:
            raise ConfigError(
                "train.patience needs a validation split: hold one out, such as data.val_fraction=0.1, or drop it."
            )
        return
    metrics = ("loss", "top1", f"top{training.k}")
    valid = [f"val/{name}/{metric}" for name in training.networks.trained for metric in metrics]
    if config.train.monitor not in valid:
        raise ConfigError(f"train.monitor={config.train.monitor}: no such metric here. Valid: {', '.join(valid)}")
