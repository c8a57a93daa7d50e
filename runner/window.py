"""What the steps since the last log said: kept on the device, read together."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from .errors import Diverged
from .training import Observer, Training


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
