"""Exact evaluation: every image counts once, and nothing of the network changes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ..data import Batch
from ..metrics import METRICS, Metric, Scores, Sums, with_k
from ..models import Networks
from ..parallel import ALONE, Ranks
from . import seeding
from .precision import Precision
from .sums import Summed, total


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


@dataclass
class Evaluation:
    """Metrics of every trained network on one split."""

    count: int
    """Images that were seen, by all processes."""
    values: dict[str, float]
    """`<network>/<metric>`: those of `metrics.METRICS`, then those of the run itself."""
    confusions: dict[str, np.ndarray]
    """Network name → int64 [K, K]: how often class (row) was taken for class (column)."""
    predictions: dict[str, Predictions] = field(default_factory=dict)
    """Network name → what it predicted, where details were asked for."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """Network name → its probabilities, where a metric needs them and they are numbers."""

    def of(self, network: str) -> dict[str, float]:
        """The metrics of one network by their own names."""
        return {name.partition("/")[2]: value for name, value in self.values.items() if name.startswith(f"{network}/")}


def try_metrics(metrics: Iterable[Metric], classes: int) -> None:
    """Compute metrics of one right prediction a class, before training. Errors: ConfigError of a user-defined one."""
    for metric in metrics:
        metric.compute(Sums(np.eye(classes, dtype=np.int64), 0.0, classes, classes))


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
    metrics: Iterable[Metric] = METRICS,
) -> Evaluation:
    """Metrics of every trained network over all batches of all processes, in bounded memory.

    The loss is the plain cross entropy whatever the run minimises, so that runs compare. `details` keeps three numbers
    an image of this process. Errors: ConfigError of a user-defined metric.
    """
    names = networks.trained
    metrics = list(metrics)
    sums = {name: Summed(k, any(metric.needs_scores for metric in metrics)) for name in names}
    seen: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in names}
    with untouched(networks):
        for batch in batches:
            for name in names:
                with precision.autocast():
                    logits = networks[name](batch.images)
                logits = logits.astype("float32")
                classes = sums[name].add(logits, batch.labels)
                if details:
                    seen[name].append(_predictions(logits, classes, batch))
    totals = dict(zip(names, total([*sums.values()], ranks), strict=True))

    def values() -> dict[str, float]:
        named = with_k(metrics, k)
        return {f"{name}/{metric.name}": metric.compute(totals[name]) for name in names for metric in named}

    predictions = {
        name: Predictions(*(np.concatenate(parts) for parts in zip(*seen[name], strict=True)))
        for name in names
        if seen[name]
    }
    confusions = {name: one.confusion for name, one in totals.items()}
    scores = {name: one.scores for name, one in totals.items() if one.scores and not math.isnan(one.loss)}
    # Processes that differ in what is the best would wait for each other: a user-defined metric is computed once.
    return Evaluation(totals[names[0]].images, ranks.broadcast_from_first(values), confusions, predictions, scores)


def _predictions(logits: paddle.Tensor, classes: paddle.Tensor, batch: Batch) -> tuple[np.ndarray, ...]:
    confidence = paddle.take_along_axis(F.softmax(logits), classes.unsqueeze(-1), axis=-1).squeeze(-1)
    return batch.indices, batch.labels.numpy(), classes.numpy(), confidence.numpy()
