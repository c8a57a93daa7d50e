"""Exact evaluation: every image counts once, and nothing of the network changes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ..data import Batch
from ..models import Networks
from ..parallel import ALONE, Ranks
from . import metrics, seeding
from .losses import cross_entropy
from .precision import Precision


@dataclass
class Predictions:
    """What one network made of every image of a split."""

    indices: np.ndarray
    """int64 [N]: which images of the split."""
    labels: np.ndarray
    """int64 [N]."""
    classes: np.ndarray
    """int64 [N]: the predicted classes."""
    confidence: np.ndarray
    """float32 [N]: probability of the predicted class."""

    @property
    def wrong(self) -> int:
        """How many images were taken for another class."""
        return int((self.labels != self.classes).sum())

    def worst(self, count: int) -> np.ndarray:
        """int64 [<= count]: places of the wrong predictions of the highest confidence, the worst first."""
        wrong = np.flatnonzero(self.labels != self.classes)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count]

    def confusion(self, num_classes: int) -> np.ndarray:
        """int64 [K, K]: how often class (row) was taken for class (column)."""
        flat = np.bincount(self.labels * num_classes + self.classes, minlength=num_classes**2)
        return flat.reshape(num_classes, num_classes)


@dataclass
class Evaluation:
    """Metrics of every trained network on one split."""

    count: int
    """Images that were seen."""
    values: dict[str, float]
    """`<network>/loss` (mean cross entropy), `<network>/top1`, `<network>/top<k>`."""
    predictions: dict[str, Predictions] = field(default_factory=dict)
    """Network name → what it predicted, where details were asked for."""


@contextlib.contextmanager
def untouched(network: nn.Layer) -> Iterator[None]:
    """Eval mode without gradients; afterwards every layer's mode and the random state are as before."""
    modes = [(layer, layer.training) for layer in network.sublayers(include_self=True)]
    random_state = seeding.state()
    network.eval()
    try:
        with paddle.no_grad():
            yield
    finally:
        for layer, training in modes:
            layer.training = training
        seeding.restore(random_state)


def evaluate(
    networks: Networks,
    batches: Iterable[Batch],
    precision: Precision,
    k: int,
    details: bool = False,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Loss and accuracy of every trained network over all batches of all processes, in constant memory.

    The loss is the plain cross entropy whatever the run minimises, so that runs compare. `details` keeps three numbers
    an image of this process.
    """
    names = networks.trained
    sums = {name: paddle.zeros([3], dtype="float64") for name in names}
    seen: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in names}
    count = 0
    with untouched(networks):
        for batch in batches:
            count += len(batch.indices)
            for name in names:
                with precision.autocast():
                    logits = networks[name](batch.images)
                logits = logits.astype("float32")
                loss = len(batch.indices) * cross_entropy(logits, batch.labels).reshape([1])
                hits = metrics.correct(logits, batch.labels, k)
                sums[name] += paddle.concat([loss, hits]).astype("float64")
                if details:
                    seen[name].append(_predict(logits, batch))
    everything = [*sums.values(), paddle.to_tensor([count], dtype="float64")]
    *totals, count = ranks.all_reduce_sum(paddle.concat(everything)).numpy().tolist()
    values: dict[str, float] = {}
    for number, name in enumerate(names):
        loss_sum, top1, topk = (total / count for total in totals[3 * number : 3 * number + 3])
        values |= {f"{name}/loss": loss_sum, f"{name}/top1": top1, f"{name}/top{k}": topk}
    predictions = {
        name: Predictions(*(np.concatenate(parts) for parts in zip(*seen[name], strict=True)))
        for name in names
        if seen[name]
    }
    return Evaluation(int(count), values, predictions)


def _predict(logits: paddle.Tensor, batch: Batch) -> tuple[np.ndarray, ...]:
    probabilities = F.softmax(logits).numpy()
    classes = probabilities.argmax(axis=-1).astype(np.int64)
    return batch.indices, batch.labels.numpy(), classes, probabilities[np.arange(len(classes)), classes]
