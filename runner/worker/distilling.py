"""Distillation besides the networks: the student's average, a check of the teachers, and ramps of terms."""

from __future__ import annotations

import copy

from .. import config as cfg
from ..errors import ConfigError
from ..models import Networks
from ..training.ema import Ema
from .stage import Stage, accuracy, sample

#: Images on which a teacher's accuracy is measured before it teaches.
TEACHERS_IMAGES = 1024
AVERAGE = "average"


def add_average(mode: cfg.Mode, networks: Networks) -> None:
    """Add the network that averages the student, a copy of it as it is now: pruned, quantized and with its weights."""
    if isinstance(mode, cfg.Cls) and mode.average:
        average = copy.deepcopy(networks["student"])
        for parameter in average.parameters():
            parameter.stop_gradient = True
        networks.add_frozen(AVERAGE, average)


def average(mode: cfg.Mode, networks: Networks) -> Ema | None:
    """The updater of that average of the student (Tarvainen & Valpola, Mean Teachers, NeurIPS 2017)."""
    if AVERAGE not in networks:
        return None
    assert isinstance(mode, cfg.Cls)
    state = {f"student.{name}": value for name, value in networks[AVERAGE].state_dict().items()}
    return Ema(networks, mode.average_decay, warmup=True, averages=state)


def teachers_accuracy(stage: Stage, name: str) -> str:
    """A note on a teacher's accuracy on these images: one that was trained on other images would teach nothing."""
    if name in stage.of_other_classes:
        return f"{name}: its classes are others, so that only its features teach and its accuracy is not measured"
    split, batches = sample(stage.loaders, TEACHERS_IMAGES)
    value = accuracy(stage, name, batches)
    count, every = len(batches.split), len(stage.loaders.source.splits[split])
    of = f"{count:,} of {every:,}" if count < every else f"{every:,}"
    return f"{name}: {stage.headline.title} {value:.4f} on {of} images of {split}"


def check_ramps(config: cfg.Config, steps: int, steps_per_epoch: int) -> None:
    """Errors: ConfigError if the run ends before a ramp does."""
    if not steps:
        return
    for key, loss in config.peer_losses.items():
        ends = loss.ramp.stretch(steps_per_epoch)[1]
        if loss.ramp.changes and ends > steps:
            raise ConfigError(
                f"{key}.ramp changes until step {ends:g}, and the run has {steps} ({steps_per_epoch} an epoch). Lower "
                f"{key}.ramp.{'epochs' if loss.ramp.epochs else 'steps'}, or {key}.ramp.begin."
            )
