"""Predicted probabilities collected during an evaluation: kept exactly while few, then counted in a fine histogram."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import Tensor

from ..metrics import CALIBRATION_BINS, CONFIDENCE_UNIT, Scores
from ..parallel import Ranks

#: Probabilities of one network, over all processes, that are kept exactly: 4 MB.
KEPT = 1 << 20
#: Numbers in all histograms of a network, and the fewest bins that one histogram has.
CELLS, LEAST_BINS = 1 << 21, 256
#: Range of log odds that the bins divide evenly, as fine near a probability of 1 as near 0; above it float32 has only 1
#: itself.
LOWEST, HIGHEST = -48.0, 17.0


def bins(classes: int) -> int:
    """Bins of each histogram; there are two a class."""
    return max(LEAST_BINS, CELLS // (2 * classes))


class Collected:
    """Probabilities of one network in one process; adding to them never waits for the device."""

    def __init__(self) -> None:
        self.calibration = paddle.zeros([CALIBRATION_BINS, 3], dtype="int64")
        self.parts: list[tuple[Tensor, Tensor]] = []
        """Probabilities float32 [n, K] and labels int64 [n], or uint8 [n, K]."""
        self.images = 0
        self.histogram: Tensor | None = None
        """int64 [K · 2 · bins]: for each class, images of the class, then images of others."""

    def add(self, probabilities: Tensor, labels: Tensor, predicted: Tensor | None = None) -> None:
        """Add a batch: float32 [n, K], int64 [n], int64 [n]; multi-label: labels uint8 [n, K], without `predicted`."""
        if predicted is None:
            self._calibrate(probabilities.flatten(), labels.flatten() == 1)
        else:
            self._calibrate(probabilities.max(axis=-1), predicted == labels)
        self.images += len(labels)
        if self.histogram is not None:
            self._count(probabilities, labels)
            return
        self.parts.append((probabilities, labels))
        if self.images * probabilities.shape[-1] > KEPT:
            self.count(probabilities.shape[-1])

    def _calibrate(self, probabilities: Tensor, is_right: Tensor) -> None:
        confidence, right = probabilities.astype("float64"), is_right.astype("int64")
        places = (confidence * CALIBRATION_BINS).ceil().astype("int64").clip(1, CALIBRATION_BINS) - 1
        units = (confidence / CONFIDENCE_UNIT).astype("int64")
        paddle.index_add_(self.calibration, places, 0, paddle.stack([paddle.ones_like(right), right, units], axis=1))

    def count(self, classes: int) -> None:
        """Switch from exact probabilities to histograms."""
        if self.histogram is None:
            self.histogram = paddle.zeros([2 * classes * bins(classes)], dtype="int64")
            for probabilities, labels in self.parts:
                self._count(probabilities, labels)
            self.parts = []

    def _count(self, probabilities: Tensor, labels: Tensor) -> None:
        assert self.histogram is not None
        classes = probabilities.shape[-1]
        size = bins(classes)
        odds = paddle.log(probabilities) - paddle.log1p(-probabilities)
        places = ((odds - LOWEST) * (size / (HIGHEST - LOWEST))).clip(0, size - 1).astype("int64").clip(0, size - 1)
        own = paddle.arange(classes, dtype="int64").unsqueeze(0)
        others = 1 - labels if labels.ndim == 2 else labels.unsqueeze(-1) != own
        rows = 2 * own + others.astype("int64")
        places = (rows * size + places).flatten()
        paddle.index_add_(self.histogram, places, 0, paddle.ones_like(places))


def total(part: Collected, classes: int, processes: Ranks, many: bool = False) -> Scores:
    """The scores of all processes: identical in each of them, and for any number of processes."""
    calibration = processes.all_reduce_sum(part.calibration).numpy()
    images = np.zeros(processes.world_size, dtype=np.int64)
    images[processes.rank] = part.images
    images = processes.all_reduce_sum(paddle.to_tensor(images)).numpy()
    if images.sum() * classes > KEPT:
        part.count(classes)
        histogram = processes.all_reduce_sum(part.histogram).numpy().reshape(classes, 2, -1)
        odds = LOWEST + np.arange(bins(classes)) * ((HIGHEST - LOWEST) / bins(classes))
        values = [(1 / (1 + np.exp(-odds))).astype(np.float32)] * classes
        return Scores([(own, others) for own, others in histogram], calibration, values if many else [], in_bins=True)
    begin = int(images[: processes.rank].sum())
    every = np.zeros((int(images.sum()), classes + (classes if many else 1)), dtype=np.float32)
    if part.parts:
        own = every[begin : begin + part.images]
        own[:, :classes] = paddle.concat([probabilities for probabilities, _ in part.parts]).numpy()
        own[:, classes:] = paddle.concat([labels for _, labels in part.parts]).numpy().reshape(len(own), -1)
    # The other processes contribute zeros, so the sum is exact.
    every = processes.all_reduce_sum(paddle.to_tensor(every)).numpy()
    probabilities, labels = every[:, :classes], every[:, classes:].astype(np.int64)
    if many:
        return Scores(rankings(probabilities, labels), calibration, [np.unique(column) for column in probabilities.T])
    return Scores(rankings(probabilities, labels[:, 0]), calibration)


def rankings(probabilities: np.ndarray, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """`Scores.ranking` of probabilities, float32 [N, K], of images with labels int64 [N] or [N, K]."""
    ranking = []
    for label, column in enumerate(probabilities.T):
        _, places, counts = np.unique(column, return_inverse=True, return_counts=True)
        is_own = labels[:, label] == 1 if labels.ndim == 2 else labels == label
        own = np.bincount(places[is_own], minlength=len(counts))
        ranking.append((own, counts - own))
    return ranking
