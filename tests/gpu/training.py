"""Trainings for tests of a GPU: the runner's steps, one after the other, and bare loops beside them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator

import paddle
import paddle.nn.functional as F

from runner.data import Batch
from runner.training.loop import train_step
from runner.training.precision import Precision
from runner.worker import experiment
from runner.worker.experiment import Experiment
from tests.conftest import composed
from tests.gpu.recorded import COUNT

#: On recorded GPUs, which are a slow CPU, everything is tiny.
RECORDED = COUNT in os.environ
STEPS = 3 if RECORDED else 30
SMALL = [
    "data=digits", f"data.batch_size={8 if RECORDED else 64}", "model=mobilenet_v3_small_x0_35", "optimizer.lr=0.001",
    "train.device=gpu", "train.threads=1", "schedule=constant", "tracking=none",
]  # fmt: skip


def built(*overrides: str) -> Experiment:
    """A run that is ready to train."""
    return experiment.build(composed(*SMALL, *overrides))


def batches(run: Experiment) -> Iterator[Batch]:
    """The batches of a run, epoch after epoch."""
    return itertools.chain.from_iterable(map(run.training.loaders.train.epoch, itertools.count()))


def losses(run: Experiment, steps: int = STEPS) -> list[float]:
    """The sum of all loss terms in each of the first steps."""
    run.training.networks.train()
    readings = []
    for batch in itertools.islice(batches(run), steps):
        readings.append(train_step(run.training, batch).values)
        run.training.progress.step += 1
    return [float(values[-3]) for values in readings]


def runners_step(*overrides: str) -> Callable[[], object]:
    """One step of the runner over a batch that is on the device already."""
    run = built(*overrides)
    run.training.networks.train()
    [batch] = itertools.islice(batches(run), 1)
    return lambda: train_step(run.training, batch)


def bare_step(*overrides: str) -> Callable[[], object]:
    """The same network, batch, optimizer and precision in a loop that does nothing else."""
    run = built(*overrides)
    network, casting = run.training.networks["student"], run.training.precision
    [batch] = itertools.islice(batches(run), 1)
    [part] = run.training.optimizations
    optimizer = part.optimizer
    network.train()

    def step() -> None:
        with casting.autocast():
            logits = network(batch.images)
        loss = F.cross_entropy(logits.astype("float32"), batch.labels)
        _move(casting, loss, optimizer)
        part.schedule.step()

    return step


def _move(casting: Precision, loss: paddle.Tensor, optimizer: paddle.optimizer.Optimizer) -> None:
    if casting.scaler is None:
        loss.backward()
        optimizer.step()
    else:
        casting.scaler.scale(loss).backward()
        casting.scaler.step(optimizer)
        casting.scaler.update()
    optimizer.clear_grad(set_to_zero=False)


def seconds(step: Callable[[], object], steps: int) -> float:
    """Seconds of one of so many steps, the device included."""
    paddle.device.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    paddle.device.cuda.synchronize()
    return (time.perf_counter() - began) / steps
