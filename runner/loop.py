"""The training loop: the only one. It knows no Hydra, no MLflow and no files."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np
import paddle
from paddle import Tensor

from . import metrics
from .config import Checkpoint, Goal, Train
from .data import Batch, Loaders
from .ema import Ema
from .errors import Diverged
from .evaluation import Evaluation, evaluate
from .models import Networks
from .modes import Mode
from .optimizers import Optimization
from .precision import Precision


@dataclass
class Progress:
    """How far a run is; all that a checkpoint must say about it beside weights and generators."""

    step: int = 0
    """Optimizer steps done."""
    epoch: int = 0
    """Epochs done."""
    batch: int = 0
    """Batches done of the epoch that is under way."""
    best: float | None = None
    """Best monitored metric so far."""
    best_step: int = 0
    """Step it was measured after."""
    waited: int = 0
    """Evaluations since the monitored metric last rose (or fell) by more than `min_delta`."""
    settled: int = 0
    """Step at which training last paused for the end of an epoch, or of the run, and was evaluated."""
    unread: dict[str, Any] = field(default_factory=dict)
    """Readings of the steps since the metrics were last logged, as `Window.unread` gives them."""

    @property
    def epochs_begun(self) -> int:
        """Number of the epoch that is under way or has just ended, from 1."""
        return self.epoch + (self.batch > 0)


@dataclass
class Training:
    """Everything the loop needs."""

    networks: Networks
    mode: Mode
    optimizations: list[Optimization]
    precision: Precision
    loaders: Loaders
    settings: Train
    checkpoints: Checkpoint
    steps: int
    """Optimizer steps of the whole run."""
    k: int
    """k of the second accuracy."""
    ema: Ema | None = None
    progress: Progress = field(default_factory=Progress)


class Observer(Protocol):
    """What the loop tells and asks the outside."""

    def logged(self, progress: Progress, values: dict[str, float]) -> None:
        """The training metrics since the last reading."""

    def evaluated(self, progress: Progress, evaluation: Evaluation, better: bool) -> None:
        """The validation metrics."""

    def checkpoint(self, progress: Progress, better: bool) -> None:
        """A moment at which the state is worth keeping; all losses so far were finite."""

    def stepped(self) -> None:
        """An optimizer step was done."""

    def stopping(self) -> bool:
        """Whether to end as soon as possible; asked after every step and every batch of an evaluation."""


class Ending(Enum):
    """Why the loop ended."""

    complete = "complete"
    early = "early"
    interrupted = "interrupted"


def fit(training: Training, observer: Observer) -> Ending:
    """Train from `training.progress` to the end.

    Errors: Diverged when a loss is not finite and the loss scaler is not handling it.
    """
    progress, settings = training.progress, training.settings
    window = Window(training, progress.unread)
    try:
        while progress.step < training.steps or progress.settled < progress.step:
            if settings.patience and progress.waited >= settings.patience:
                window.flush(observer)
                return Ending.early
            train_epoch(training, window, observer)
            if progress.step == training.steps:
                window.flush(observer)
            settle(training, window, observer)
            window.restart_clock()
    except Stopped:
        keep(training, window, observer, better=False)
        return Ending.interrupted
    return Ending.complete


class Stopped(Exception):
    """The observer asked to end; what is done so far can be continued."""


def train_epoch(training: Training, window: Window, observer: Observer) -> None:
    """Train to the end of the epoch that is under way, or of the run. Errors: Stopped between two steps."""
    progress = training.progress
    if progress.step == training.steps:
        return
    training.networks.train()
    for batch in training.loaders.train.epoch(progress.epoch, progress.batch):
        window.add(train_step(training, batch), len(batch.indices))
        progress.step += 1
        progress.batch += 1
        if progress.step % training.settings.log_every == 0:
            observer.logged(progress, window.read())
        observer.stepped()
        if observer.stopping():
            raise Stopped
        if progress.step == training.steps:
            return
        every = training.checkpoints.every_steps
        if every and progress.step % every == 0 and progress.batch < training.loaders.train.batches_per_epoch:
            keep(training, window, observer, better=False)
            window.restart_clock()


def settle(training: Training, window: Window, observer: Observer) -> None:
    """The end of an epoch, or of the run within one: evaluate and keep the state. Errors: Stopped within evaluation."""
    progress, settings = training.progress, training.settings
    ended = progress.step == training.steps
    evaluation = None
    window.check()
    if training.loaders.val and (ended or (progress.epoch + 1) % settings.eval_every == 0):
        evaluation = validate(training, observer)
    if progress.batch == training.loaders.train.batches_per_epoch:
        progress.epoch, progress.batch = progress.epoch + 1, 0
    progress.settled = progress.step
    better = training.loaders.val is None
    if evaluation:
        better = judge(training, evaluation)
        observer.evaluated(progress, evaluation, better)
    patience_ends = settings.patience is not None and progress.waited >= settings.patience
    if better or ended or patience_ends or progress.epoch % training.checkpoints.every_epochs == 0:
        keep(training, window, observer, better)


def keep(training: Training, window: Window, observer: Observer, better: bool) -> None:
    """Offer the state of now to the observer. Errors: Diverged where a loss since the last check is not finite."""
    training.progress.unread = window.unread()
    observer.checkpoint(training.progress, better)


def train_step(training: Training, batch: Batch) -> Reading:
    """Forward and losses, one backward of their sum, one step of every optimizer and every schedule.

    With `accumulate` the batch is computed in parts whose gradients, weighted by their size, add up to the batch's.
    """
    reading = Reading()
    for images, labels, share in parts(batch, training.settings.accumulate):
        with training.precision.autocast():
            logits = training.networks(images)
            losses = training.mode.losses(logits, labels)
        terms = {name: value for loss in losses for name, value in loss.items()}
        total = sum(terms.values(), start=paddle.zeros([]))
        training.precision.backward(total if share == 1 else total * share)
        reading.add(terms, total, metrics.correct(logits["student"].detach(), labels, training.k), share)
    reading.rates = [optimization.lr for optimization in training.optimizations]
    training.precision.step(training.optimizations)
    for optimization in training.optimizations:
        optimization.schedule.step()
    if training.ema:
        training.ema.update()
    return reading


def parts(batch: Batch, accumulate: int) -> Iterator[tuple[Tensor, Tensor, float]]:
    """(images, labels, share of the batch) of at most `accumulate` parts of a batch, as equal as can be."""
    size = len(batch.indices)
    if accumulate == 1:
        yield batch.images, batch.labels, 1.0
        return
    bounds = np.linspace(0, size, min(accumulate, size) + 1).astype(int)
    for begin, end in itertools.pairwise(bounds):
        yield batch.images[begin:end], batch.labels[begin:end], (end - begin) / size


def validate(training: Training, observer: Observer) -> Evaluation:
    """Evaluate on the validation split, averaged weights before plain ones. Errors: Stopped between two batches."""
    assert training.loaders.val is not None

    def until_stopped(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if observer.stopping():
                raise Stopped
            yield batch

    with training.ema.applied() if training.ema else contextlib.nullcontext():
        return evaluate(training.networks, until_stopped(training.loaders.val), training.precision, training.k)


def judge(training: Training, evaluation: Evaluation) -> bool:
    """Note how the monitored metric moved. Whether it is the best so far."""
    progress, settings = training.progress, training.settings
    value = evaluation.values[settings.monitor.removeprefix("val/")]
    gained = gain(value, progress.best, settings.goal)
    # Of equal values the later weights are taken: they saw the lower learning rates.
    better = gained >= 0
    progress.waited = 0 if gained > settings.min_delta else progress.waited + 1
    if better:
        progress.best, progress.best_step = value, progress.step
    return better


def gain(value: float, best: float | None, goal: Goal) -> float:
    """By how much the monitored metric improves on the best so far; never where it is not a number."""
    if math.isnan(value):
        return -math.inf
    if best is None:
        return math.inf
    return value - best if goal is Goal.max else best - value


@dataclass
class Reading:
    """Loss terms and hits of one step, still on the device."""

    names: list[str] = field(default_factory=list)
    values: Tensor | None = None
    """float32 [terms + 3]: the terms, their sum, top-1 and top-k hits."""
    rates: list[float] = field(default_factory=list)
    """Learning rate of each optimizer."""

    @paddle.no_grad()
    def add(self, terms: dict[str, Tensor], total: Tensor, hits: Tensor, share: float) -> None:
        """Add a part of the batch: losses weighted by its share, hits as they are."""
        losses = paddle.stack([value.detach().astype("float32") for value in (*terms.values(), total)])
        values = paddle.concat([losses if share == 1 else losses * share, hits])
        self.names = list(terms)
        self.values = values if self.values is None else self.values + values


class Window:
    """The readings since the metrics were last logged."""

    def __init__(self, training: Training, unread: dict[str, Any]) -> None:
        self.training = training
        self.readings = [
            Reading(unread["names"], paddle.to_tensor(values, dtype="float32"), unread["rates"])
            for values in unread.get("values", [])
        ]
        self.images: int = unread.get("images", 0)
        self.unchecked = 0
        self.timed = 0
        self.seconds = 0.0
        self.started = time.perf_counter()

    def add(self, reading: Reading, images: int) -> None:
        """Take in one step."""
        self.readings.append(reading)
        self.unchecked += 1
        self.images += images
        self.timed += images

    def restart_clock(self) -> None:
        """Leave what happened since the last step out of the speed."""
        self.started = time.perf_counter()

    def check(self) -> np.ndarray:
        """Wait for the device and return all readings, float32 [steps, terms + 3].

        Errors: Diverged for the first step since the last check with a loss that is not finite.
        """
        if not self.readings:
            return np.zeros((0, 0), dtype=np.float32)
        values = paddle.stack([reading.values for reading in self.readings]).numpy()
        if not self.unchecked:
            return values
        self.seconds += time.perf_counter() - self.started
        self.started = time.perf_counter()
        bad = np.argwhere(~np.isfinite(values[len(values) - self.unchecked :, :-2]))
        if len(bad) and not self.training.precision.handles_overflow:
            self._diverged(int(bad[0][0]), int(bad[0][1]))
        self.unchecked = 0
        return values

    def _diverged(self, row: int, column: int) -> None:
        progress = self.training.progress
        term = [*self.readings[0].names, "their sum"][column]
        step = progress.step - self.unchecked + row + 1
        raise Diverged(
            f"The loss '{term}' is not finite at step {step} of epoch {progress.epochs_begun}. "
            "Lower optimizer.lr, add a warm-up (schedule=cosine_warmup) or clip gradients (optimizer.clip_norm=1)."
        )

    def unread(self) -> dict[str, Any]:
        """The readings as plain data, exact, from which a window goes on in another process. Errors as in `check`."""
        values = self.check()
        if not self.readings:
            return {}
        last = self.readings[-1]
        return {"names": last.names, "rates": last.rates, "values": values.tolist(), "images": self.images}

    def flush(self, observer: Observer) -> None:
        """Report the steps that were not read yet."""
        if self.readings:
            observer.logged(self.training.progress, self.read())

    def read(self) -> dict[str, float]:
        """Averages over the window as `train/…` metrics, and a new window."""
        values = self.check()
        names = self.readings[0].names
        means = values[:, :-2].mean(axis=0, dtype=np.float64)
        top1, topk = values[:, -2:].sum(axis=0) / self.images
        read = {"train/loss": float(means[-1])}
        read |= {f"train/loss/{name}": float(mean) for name, mean in zip(names, means[:-1], strict=True)}
        read |= {"train/top1": float(top1), f"train/top{self.training.k}": float(topk)}
        rates = self.readings[-1].rates
        read["train/lr"] = rates[0]
        for optimization, rate in zip(self.training.optimizations[1:], rates[1:], strict=True):
            read[f"train/lr/{'+'.join(optimization.networks)}"] = rate
        if self.training.precision.loss_scale is not None:
            read["train/loss_scale"] = self.training.precision.loss_scale
        if self.timed:
            read["train/images_per_s"] = self.timed / max(self.seconds, 1e-9)
        self.readings, self.images, self.timed, self.seconds = [], 0, 0, 0.0
        return read
