"""Sums over logits and labels, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import device
from ..kernels import functions, native
from ..metrics import Sums
from ..parallel import Ranks
from . import binary, scores
from .losses import cross_entropy


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Rank of the label among the classes, 0 for the largest logit.

    logits: float [N, K]; labels: int64 [N]; returns int64 [N]. Of equal logits the smaller class comes first, as in
    `argmax`; a NaN logit ranks the label last.
    """
    logits = logits.astype("float32")
    label_logits = paddle.take_along_axis(logits, labels.unsqueeze(-1), axis=-1)
    classes = paddle.arange(logits.shape[-1], dtype="int64").unsqueeze(0)
    above = ~(logits <= label_logits)
    tied_before = (logits == label_logits) & (classes < labels.unsqueeze(-1))
    return (above | tied_before).astype("int64").sum(axis=-1)


def correct(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """How many images are top-1 and top-k correct: float32 [2].

    A soft label, a row of float32 [N, K], counts by its share of the top class, or of the k top classes. Multi-label:
    see `agreeing`.
    """
    if labels.dtype == paddle.uint8:
        return agreeing(logits.astype("float32"), labels)
    if labels.ndim == 2:
        values, classes = logits.astype("float32").topk(k)
        shares = paddle.take_along_axis(labels, classes, axis=1) * (~paddle.isnan(values)).astype("float32")
        return paddle.stack([shares[:, 0].sum(), shares.sum()])
    is_usual = (logits.dtype, labels.dtype) == (paddle.float32, paddle.int64)
    if is_usual and device.is_cpu() and not native.unavailable():
        return functions.hits(logits, labels, k)
    place = ranks(logits, labels)
    return paddle.stack([(place < 1).astype("float32").sum(), (place < k).astype("float32").sum()])


def agreeing(logits: Tensor, labels: Tensor) -> Tensor:
    """The multi-label counterpart of `correct`: images with every label right, and the summed fractions of wrong
    labels.

    logits: float [N, K]; labels: uint8 [N, K]; returns float32 [2]. A label is predicted from a probability of ½ on.
    """
    wrong = ((logits >= 0).astype("uint8") != labels).astype("float32").mean(axis=-1)
    return paddle.stack([(wrong == 0).astype("float32").sum(), wrong.sum()])


class Summed:
    """The sums of one network: adding a batch never waits for the device, whatever the number of classes."""

    def __init__(self, k: int, with_scores: bool = False, thresholds: Sequence[float] | None = None) -> None:
        """`thresholds`: multi-label: the probability of each class from which it is predicted; by default ½."""
        self.k = k
        self.thresholds = thresholds and paddle.to_tensor(thresholds, dtype="float32")
        self.scores = scores.Collected() if with_scores else None
        self.loss = paddle.zeros([1], dtype="float64")
        self.hits = paddle.zeros([2], dtype="int64")
        self.classes, self.many = 0, False
        self.confusion = paddle.zeros([0], dtype="int64")
        """int64 [K²], multi-label [4·K], flattened; K is known from the first batch on."""

    def reserve(self, classes: int, many: bool = False) -> None:
        """Allocate the sums for this many classes, unless that was done."""
        if not self.classes:
            self.classes, self.many = classes, many
            self.confusion = paddle.zeros([np.prod(self.shape)], dtype="int64")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the confusion matrix or matrices."""
        return (self.classes, 2, 2) if self.many else (self.classes, self.classes)

    def add(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Add a batch, logits float32 [N, K] and labels int64 [N]; returns the predicted classes, int64 [N].

        Multi-label: labels and predictions are uint8 [N, K].
        """
        if labels.dtype == paddle.uint8:
            return self._add_many(logits, labels)
        self.reserve(logits.shape[-1])
        self.loss += (len(labels) * cross_entropy(logits, labels).reshape([1])).astype("float64")
        self.hits += correct(logits, labels, self.k).astype("int64")
        # On a GPU the argmax of all-NaN logits is -1.
        predicted = logits.argmax(axis=-1).clip(min=0)
        # In place, at a cost independent of K; `bincount` would make a matrix a batch.
        paddle.index_add_(self.confusion, labels * self.classes + predicted, 0, paddle.ones_like(labels))
        if self.scores:
            self.scores.add(F.softmax(logits), labels, predicted)
        return predicted

    def _add_many(self, logits: Tensor, labels: Tensor) -> Tensor:
        self.reserve(logits.shape[-1], many=True)
        probabilities = F.sigmoid(logits)
        predicted = (probabilities >= (0.5 if self.thresholds is None else self.thresholds)).astype("uint8")
        self.loss += (len(labels) * binary.cross_entropy(logits, labels).reshape([1])).astype("float64")
        right = (predicted == labels).all(axis=-1).astype("int64").sum()
        self.hits += paddle.stack([right, paddle.zeros_like(right)])
        cells = 2 * labels.astype("int64") + predicted.astype("int64")
        counts = [(cells == cell).astype("int64").sum(axis=0) for cell in range(4)]
        self.confusion += paddle.stack(counts, axis=1).flatten()
        if self.scores:
            self.scores.add(probabilities, labels)
        return predicted


def total(parts: Sequence[Summed], processes: Ranks) -> list[Sums]:
    """The sums over all processes, identical in each of them; integers, so exact."""
    # A process without images knows neither the number of classes nor whether images are multi-label.
    about = [max(part.classes for part in parts), int(any(part.many for part in parts))]
    classes, many = processes.all_reduce_max(paddle.to_tensor(about)).tolist()
    for part in parts:
        part.reserve(classes, bool(many))
    losses = processes.all_reduce_sum(paddle.concat([part.loss for part in parts])).tolist()
    counts = processes.all_reduce_sum(
        paddle.concat([tensor for part in parts for tensor in (part.hits, part.confusion)])
    )
    totals = []
    for part, loss, row in zip(parts, losses, counts.numpy().reshape(len(parts), -1), strict=True):
        collected = scores.total(part.scores, classes, processes, part.many) if part.scores else None
        totals.append(Sums(row[2:].reshape(part.shape), loss, int(row[0]), int(row[1]), collected))
    return totals
