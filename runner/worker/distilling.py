"""Distillation besides the networks: the student's average, a check of the teachers, their logits, ramps of terms."""

from __future__ import annotations

import copy
import time

import numpy as np

from .. import config as cfg
from .. import terminal
from ..data import EvalLoader
from ..errors import ConfigError
from ..models import Networks
from ..runs.protocol import Heartbeat
from ..training import precomputed
from ..training.ema import Ema
from ..training.loop import out_of_patience
from ..training.state import Training
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
    of = f"{count:,} of " if count < every else ""
    return f"{name}: {stage.headline.title} {value:.4f} on {of}{terminal.counted(every, 'image')} of {split}"


def precompute(config: cfg.Config, training: Training, notes: list[str]) -> None:
    """Compute the teachers' logits for all images that are still trained on, if the config asks for it.

    The teachers are not needed any more, and are removed. The time budget is smaller by the time that it takes. Errors:
    ConfigError as soon as none is left.
    """
    mode, ranks, clock, step = config.mode, training.ranks, training.clock, training.progress.step
    if not isinstance(mode, cfg.ClsTeacher) or not mode.precompute_logits or _is_over(training):
        return
    began, heartbeat, networks = time.monotonic(), Heartbeat(), training.networks
    images, loader = _images(training)
    count = terminal.counted(len(images), "image")

    def elapsed(done: int) -> float:
        """Seconds that it has taken so far. Errors: ConfigError if they leave no time for a step."""
        seconds = time.monotonic() - began
        if clock and clock.steps(step, clock.earlier + seconds) <= step:
            # A resumed run keeps the key as it began.
            remedy = "Raise it." if step else "Raise it, or use mode.precompute_logits=false."
            raise ConfigError(
                f"train.max_minutes={config.train.max_minutes:g}: computing the teachers' logits of {done:,} of "
                f"{count} took {terminal.duration(seconds)}, which leaves no time to train. {remedy}"
            )
        return seconds

    with terminal.progress("computing the teachers' logits") as show:

        def tell(done: int, every: int) -> None:
            heartbeat.beat()
            if ranks.is_first:
                show(done, every)
            if clock:
                ranks.broadcast_from_first(lambda: elapsed(done))

        classes = len(training.loaders.classes)
        training.precomputed = precomputed.compute(networks, loader, images, classes, training.precision, ranks, tell)
    seconds = ranks.broadcast_from_first(lambda: elapsed(len(images)))
    for name in mode.teachers:
        networks.remove_frozen(name)
    training.precomputing_s += seconds
    if clock:
        clock.budget -= seconds
    notes.append(
        f"the teachers' logits for {count} were computed in {terminal.duration(seconds)} (mode.precompute_logits)"
    )
    if training.loaders.train.augment.changes_images:
        notes.append(
            "the teachers see each image as an evaluation prepares it, while the student sees it augmented: their "
            "logits are computed once (mode.precompute_logits)"
        )


def _is_over(training: Training) -> bool:
    """Whether no step is left: by the number of steps, the clock or `train.patience`."""
    clock, step = training.clock, training.progress.step
    steps = clock.steps(step, clock.earlier) if clock and step else training.steps
    return step >= steps or out_of_patience(training)


def _images(training: Training) -> tuple[np.ndarray, EvalLoader]:
    """The training images of which logits are needed, as `precomputed.Precomputed` has them, and their batches.

    A run of less than an epoch needs only some. A resumed run needs the same ones, in the same batches: it computes the
    same bits.
    """
    train, split, ranks = training.loaders.train, training.loaders.source.train, training.ranks
    images = np.arange(len(split))
    most = training.clock.most if training.clock else training.steps
    if most and most < train.batches_per_epoch:
        images = train.first_images(most)
        split = split.select(images)
    return images, EvalLoader(split, train.config, ranks.rank, ranks.world_size)


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
