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
from .errors import ConfigError
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
    """A network with the weights of a trained one."""
    weights = checkpoint.read_weights(mode.teacher_from)
    architecture = mode.teacher or config.model
    stored = Path(mode.teacher_from) / CONFIG
    if mode.teacher is None and stored.is_file():
        architecture = store.read(stored).model
    network = models.build(architecture, classes)
    name = mode.teacher_network
    prefix = f"{name}."
    chosen = {key.removeprefix(prefix): value for key, value in weights.arrays.items() if key.startswith(prefix)}
    holder = Networks({name: network})
    arrays = {f"{prefix}{key}": value for key, value in (chosen or weights.arrays).items()}
    summary = checkpoint.initialize(holder, (name,), checkpoint.Weights(weights.origin, arrays), strict=True)
    notes.append(f"teacher: {summary}")
    return network


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
