"""Training metrics of the steps since the last log: accumulated on the device, read together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import paddle
from paddle import Tensor

from ..errors import Diverged
from ..metrics import COUNTED, HEADLINE
from .state import Observer, Training, Unread


@dataclass
class Reading:
    """Loss terms and hits of one step, this process's part of them, still on the device."""

    names: list[str] = field(default_factory=list)
    values: Tensor | None = None
    """float32 [terms + 3]: the terms, their sum, top-1 and top-k hits."""
    rates: list[float] = field(default_factory=list)
    """Learning rate of each optimizer."""

    @paddle.no_grad()
    def add(self, terms: dict[str, Tensor], total: Tensor, hits: Tensor, share: float) -> None:
        """Add a part of the batch: losses weighted by its share of the batch, hits unweighted."""
        read = [value.detach() for value in (*terms.values(), total)]
        losses = paddle.stack([value if value.dtype == paddle.float32 else value.astype("float32") for value in read])
        values = paddle.concat([losses if share == 1 else losses * share, hits])
        self.names = list(terms)
        self.values = values if self.values is None else self.values + values


class Window:
    """The last `log_every` steps: every reading averages as many, also the last one of a run."""

    def __init__(self, training: Training, unread: Unread) -> None:
        self.training = training
        self.names: list[str] = unread.get("names", [])
        self.rates: list[float] = unread.get("rates", [])
        self.values = np.array(unread.get("values", []), dtype=np.float32)
        """float32 [steps, terms + 3]: values already read from the device, over all processes."""
        self.fresh: int = unread.get("fresh", len(self.values))
        """How many of the last steps have not been logged yet."""
        # Checkpoints of earlier versions have the sum alone.
        evenly = [unread.get("images", 0) / max(1, len(self.values))] * len(self.values)
        self.counts: list[float] = list(unread.get("counts", evenly))
        """Images of each step in `values` and `readings`."""
        self.readings: list[Reading] = []
        """Readings that are still on the device."""
        self.timed = 0
        self.seconds = 0.0
        self.started = time.perf_counter()

    def add(self, reading: Reading, images: int) -> None:
        """Take in one step."""
        self.readings.append(reading)
        self.names, self.rates = reading.names, reading.rates
        self.counts.append(images)
        self.fresh += 1
        self.timed += images

    def restart_clock(self) -> None:
        """Exclude the time since the last step from the measured speed."""
        self.started = time.perf_counter()

    def check(self) -> None:
        """Wait for the device and take over its readings, in all processes at the same step.

        Errors: Diverged for the first step since the last check with a loss that is not finite.
        """
        if not self.readings:
            return
        values = self.training.ranks.all_reduce_sum(paddle.stack([reading.values for reading in self.readings])).numpy()
        self.seconds += time.perf_counter() - self.started
        self.started = time.perf_counter()
        bad = np.argwhere(~np.isfinite(values[:, :-2]))
        if len(bad) and not self.training.precision.handles_overflow:
            self._diverged(int(bad[0][0]), int(bad[0][1]))
        self.values = np.concatenate([self.values, values]) if len(self.values) else values
        self.readings = []

    def _diverged(self, row: int, column: int) -> None:
        progress = self.training.progress
        term = [*self.names, "their sum"][column]
        step = progress.step - len(self.readings) + row + 1
        raise Diverged(
            f"The loss '{term}' is not finite at step {step} of epoch {progress.epochs_begun}. "
            "Lower optimizer.lr, add a warm-up (schedule=cosine_warmup) or clip gradients (optimizer.clip_norm=1)."
        )

    def unread(self) -> Unread:
        """The readings as exact plain data, with which another process can continue. Errors as in `check`."""
        self.check()
        if not len(self.values):
            return Unread()
        return Unread(
            names=self.names, rates=self.rates, values=self.values.tolist(), counts=self.counts, fresh=self.fresh
        )

    def flush(self, observer: Observer) -> None:
        """Report the steps that have not been logged yet."""
        if self.fresh:
            observer.logged(self.training.progress, self.read())

    def read(self) -> dict[str, float]:
        """Averages of the last steps as `train/…` metrics: those not logged yet, but at least `log_every`."""
        self.check()
        steps = max(self.fresh, self.training.settings.log_every)
        self.values, self.counts = self.values[-steps:], self.counts[-steps:]
        means = self.values[:, :-2].mean(axis=0, dtype=np.float64)
        hits = self.values[:, -2:].sum(axis=0) / sum(self.counts)
        read = {"train/loss": float(means[-1])}
        read |= {f"train/loss/{name}": float(mean) for name, mean in zip(self.names, means[:-1], strict=True)}
        counted = COUNTED if self.training.loaders.many else (HEADLINE.name, f"top{self.training.k}")
        read |= {f"train/{name}": float(share) for name, share in zip(counted, hits, strict=True)}
        read["train/lr"] = self.rates[0]
        for optimization, rate in zip(self.training.optimizations[1:], self.rates[1:], strict=True):
            read[f"train/lr/{'+'.join(optimization.networks)}"] = rate
        factors = self.training.mode.ramped(self.training.progress.step - 1)
        read |= {f"train/weight/{term}": factor for term, factor in factors.items()}
        if self.training.precision.loss_scale is not None:
            read["train/loss_scale"] = self.training.precision.loss_scale
        if self.timed:
            read["train/images_per_s"] = self.timed / max(self.seconds, 1e-9)
        self.fresh, self.timed, self.seconds = 0, 0, 0.0
        return read
