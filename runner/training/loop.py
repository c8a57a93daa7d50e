"""The training loop, the only one in the package. It knows no Hydra, no MLflow and no files."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
from collections.abc import Iterable, Iterator

import numpy as np
import paddle
from paddle import Tensor

from .. import device
from ..config import Penalty
from ..data import Batch
from ..metrics import Goal
from ..metrics.names import monitored
from ..models.networks import Output
from ..parallel import Ranks
from . import pruning
from .evaluation import Evaluation, evaluate
from .metric_window import Reading, Window
from .state import Ending, Observer, Training
from .sums import correct


def fit(training: Training, observer: Observer) -> Ending:
    """Train from `training.progress` to the end.

    Errors: Diverged when a loss is not finite and the loss scaler is not handling it.
    """
    progress = training.progress
    window = Window(training, progress.unread)
    if training.clock:
        training.clock.start()
        if progress.step:
            read_clock(training)
    try:
        if training.steps == 0:
            pause(training, window, observer)
        while progress.step < training.steps or progress.settled < progress.step:
            if out_of_patience(training):
                window.flush(observer)
                return Ending.early
            prune_where_due(training, window, observer)
            train_epoch(training, window, observer)
            if progress.settled < progress.step:
                if progress.step == training.steps:
                    window.flush(observer)
                pause(training, window, observer)
            window.restart_clock()
    except Stopped:
        offer_checkpoint(training, window, observer, better=False)
        return Ending.interrupted
    return Ending.complete


def prune_where_due(training: Training, window: Window, observer: Observer) -> None:
    """Prune the networks before an epoch if a cut is due. Errors: Stopped before a cut, which may take long."""
    pruner, progress = training.pruner, training.progress
    while pruner and progress.batch == 0 and progress.step < training.steps and pruner.is_due(progress.epoch):
        if training.ranks.any_rank(observer.stopping()):
            raise Stopped
        # As after a resumption here: what trains from this step on is not frozen in the cut either.
        training.freezing.follow(progress.step)
        observer.noted(pruner.cut(training))
        window.restart_clock()


class Stopped(Exception):
    """The observer asked to stop; the work done so far can be continued."""


def train_epoch(training: Training, window: Window, observer: Observer) -> None:
    """Train to the end of the current epoch, or of the run. Errors: Stopped between two steps."""
    progress, whole = training.progress, training.loaders.train.batches_per_epoch
    if progress.step == training.steps or not evaluated_within(training, window, observer):
        return
    training.networks.train()
    for batch in training.loaders.train.epoch(progress.epoch, progress.batch):
        window.add(train_step(training, batch), batch.global_size)
        progress.step += 1
        progress.batch += 1
        if progress.step % training.settings.log_every == 0:
            observer.logged(progress, window.read())
        if training.clock and clock_is_due(training):
            read_clock(training)
        observer.stepped()
        if stopping(training, observer):
            raise Stopped
        if progress.step == training.steps or not evaluated_within(training, window, observer):
            return
        every = training.checkpoints.every_steps
        if every and progress.step % every == 0 and progress.settled < progress.step and progress.batch < whole:
            offer_checkpoint(training, window, observer, better=False)
            window.restart_clock()


def evaluated_within(training: Training, window: Window, observer: Observer) -> bool:
    """Evaluate within an epoch if that is due. Returns whether training continues with the epoch. Errors: Stopped."""
    progress = training.progress
    within = 0 < progress.batch < training.loaders.train.batches_per_epoch
    if within and progress.settled < progress.step and evaluation_is_due(training):
        pause(training, window, observer)
        window.restart_clock()
        return progress.step < training.steps and not out_of_patience(training)
    return True


def evaluation_is_due(training: Training) -> bool:
    """Whether the networks are evaluated after the step (or epoch) that has just ended."""
    progress, settings = training.progress, training.settings
    if training.loaders.val is None:
        return False
    if progress.step == training.steps:
        return True
    if settings.eval_every_steps:
        return progress.step % settings.eval_every_steps == 0
    ended = progress.batch == training.loaders.train.batches_per_epoch
    return ended and (progress.epoch + 1) % settings.eval_every == 0


def out_of_patience(training: Training) -> bool:
    """Whether `train.patience` evaluations in a row have brought no improvement."""
    return training.settings.patience is not None and training.progress.waited >= training.settings.patience


def clock_is_due(training: Training) -> bool:
    """Whether to read the clock after this step. Between two readings the length of the run stays as last estimated."""
    step = training.progress.step
    # On a GPU steps are asynchronous, so a time is exact only where the loop waits for the device; the first estimates
    # may be rough.
    return device.is_cpu() or step % training.settings.log_every == 0 or step == training.steps or step.bit_count() == 1


def read_clock(training: Training) -> None:
    """Let the run's length, and with it the learning rates, follow the clock."""
    training.steps = steps_by_clock(training)
    training.follow()


def time_is_up(training: Training) -> bool:
    """Whether a clock ends the run, and leaves no time for another step."""
    return training.clock is not None and steps_by_clock(training) == training.progress.step


def steps_by_clock(training: Training) -> int:
    """Steps of the whole run by the clock of the first process."""
    clock, step = training.clock, training.progress.step
    assert clock is not None
    return training.ranks.broadcast_from_first(lambda: clock.steps(step, clock.spent))


def stopping(training: Training, observer: Observer) -> bool:
    """Whether any process was asked to stop. All processes agree at the same step, where they synchronise anyway."""
    waits = device.is_cpu() or training.progress.step % training.settings.log_every == 0
    return training.replicas.should_stop(observer.stopping(), waits)


def pause(training: Training, window: Window, observer: Observer) -> None:
    """Evaluate if that is due and save: at the end of an epoch or of the run, or at an evaluation within an epoch.

    Errors: Stopped within evaluation.
    """
    progress = training.progress
    evaluation = None
    window.check()
    if evaluation_is_due(training):
        evaluation = validate(training, observer)
        if progress.step < training.steps and time_is_up(training):
            # This validation is the last one.
            training.steps = progress.step
            window.flush(observer)
    epoch_ended = progress.batch == training.loaders.train.batches_per_epoch
    if epoch_ended:
        progress.epoch, progress.batch = progress.epoch + 1, 0
    progress.settled = progress.step
    # Without validation images the latest weights count as the best.
    better = training.loaders.val is None and training.compares
    if evaluation:
        better = note_monitored(training, evaluation)
        observer.evaluated(progress, evaluation, better)
    every_steps, every_epochs = training.checkpoints.every_steps, training.checkpoints.every_epochs
    is_due = progress.epoch % every_epochs == 0 if epoch_ended else every_steps and progress.step % every_steps == 0
    if better or progress.step == training.steps or out_of_patience(training) or is_due:
        offer_checkpoint(training, window, observer, better)


def offer_checkpoint(training: Training, window: Window, observer: Observer, better: bool) -> None:
    """Offer the current state to the observer. Errors: Diverged where a loss since the last check is not finite."""
    training.progress.unread = window.unread()
    observer.checkpoint(training.progress, better)


def train_step(training: Training, batch: Batch) -> Reading:
    """Forward and losses, one backward of their sum, one step of every optimizer and every schedule.

    With `accumulate` the batch is computed in parts whose gradients, weighted by their size, add up to the batch's.
    Of each part every process computes its rows; gradients are all-reduced after the last part.
    """
    reading, ranks, step = Reading(), training.ranks, training.progress.step
    training.freezing.follow(step)
    pieces = list(parts(batch, training.settings.accumulate, ranks))
    for number, (images, labels, indices, rows) in enumerate(pieces, 1):
        training.shard.rows = rows
        share = len(labels) / batch.global_size
        with training.replicas.accumulating(number == len(pieces)):
            with training.precision.autocast():
                outputs = training.replicas.forward(images)
            if training.precomputed:
                outputs |= training.precomputed.outputs(indices)
            # The loss's logarithms and powers overflow half precision.
            losses = training.mode.losses({name: in_float32(output) for name, output in outputs.items()}, labels, step)
            terms = {name: value for loss in losses for name, value in loss.items()}
            sparsity = penalty(training)
            if not is_decoupled(training):
                terms |= sparsity
            total = functools.reduce(operator.add, terms.values())
            # All-reduce averages over processes.
            weight = share * ranks.world_size
            training.precision.backward(total if weight == 1 else total * weight)
        reading.add(terms | sparsity, total, correct(outputs["student"].logits.detach(), labels, training.k), share)
    reading.rates = [optimization.lr for optimization in training.optimizations]
    training.replicas.reduce_gradients()
    training.precision.step(training.optimizations)
    for optimization, rate in zip(training.optimizations, reading.rates, strict=True):
        if training.pruner and is_decoupled(training):
            pruning.shrink_scales(optimization, training.networks, training.pruner, rate)
        optimization.schedule.step()
    for average in filter(None, (training.ema, training.average)):
        average.update(step, training.freezing.has)
    return reading


def penalty(training: Training) -> dict[str, Tensor]:
    """The penalty that pulls the scales of normalisation layers to zero, if pruning asks for it; else nothing."""
    if training.pruner is None or not training.pruner.settings.sparsity:
        return {}
    return pruning.penalty(training.networks, training.pruner)


def is_decoupled(training: Training) -> bool:
    """Whether that penalty is applied after the step (proximal) instead of as a term of the loss."""
    return training.pruner is not None and training.pruner.settings.penalty is Penalty.decoupled


def in_float32(output: Output) -> Output:
    """The output with its logits cast to float32 if they are half precision."""
    is_half = output.logits.dtype in (paddle.float16, paddle.bfloat16)
    return output._replace(logits=output.logits.astype("float32")) if is_half else output


def parts(batch: Batch, accumulate: int, ranks: Ranks) -> Iterator[tuple[Tensor, Tensor, np.ndarray, range]]:
    """At most `accumulate` near-equal parts of a batch: this process's images, labels and indices of images; rows of
    the whole batch."""
    size = batch.global_size
    if accumulate == 1:
        yield batch.images, batch.labels, batch.indices, range(size)
        return
    # Row r of this process is row rank + r·world of the batch, and every process has rows in each part.
    count = max(1, min(accumulate, size // ranks.world_size))
    bounds = np.linspace(0, size, count + 1).astype(int)
    for begin, end in itertools.pairwise(bounds):
        first, last = (int(-((ranks.rank - bound) // ranks.world_size)) for bound in (begin, end))
        own = slice(first, last)
        yield batch.images[own], batch.labels[own], batch.indices[own], range(begin, end)


def validate(training: Training, observer: Observer) -> Evaluation:
    """Evaluate on the validation split, averaged weights before plain ones. Errors: Stopped between two batches."""
    assert training.loaders.val is not None

    def until_stopped(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            # Several processes synchronise at the end of an evaluation, and notice a request to stop only then.
            if observer.stopping() and training.ranks.world_size == 1:
                raise Stopped
            yield batch

    batches, clock = until_stopped(training.loaders.val), training.clock
    began = clock.spent if clock else 0.0
    with training.ema.applied() if training.ema else contextlib.nullcontext():
        evaluation = evaluate(
            training.networks, batches, training.precision, training.k,
            ranks=training.ranks, metrics=training.metrics,
        )  # fmt: skip
    if clock:
        clock.reserve = training.progress.validation_s = clock.spent - began
    return evaluation


def note_monitored(training: Training, evaluation: Evaluation) -> bool:
    """Update the record of the monitored metric. Returns whether it is the best so far."""
    progress, settings = training.progress, training.settings
    value = evaluation.values[monitored(settings.monitor)]
    progress.thresholds = evaluation.thresholds
    progress.scores.append(-value if settings.goal is Goal.min else value)
    training.follow()
    if not training.compares:
        return False
    gained = gain(value, progress.best, settings.goal)
    # Of equal values the later weights win: they were trained at the lower learning rates.
    better = gained >= 0
    progress.waited = 0 if gained > settings.min_delta else progress.waited + 1
    if better:
        progress.best, progress.best_step = value, progress.step
    return better


def gain(value: float, best: float | None, goal: Goal | None) -> float:
    """By how much the monitored metric improves on the best so far; a NaN never improves."""
    if math.isnan(value):
        return -math.inf
    if best is None:
        return math.inf
    return best - value if goal is Goal.min else value - best
