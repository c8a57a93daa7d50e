"""Exact evaluation: every image counts once, and the network is left unchanged."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ..data import Batch
from ..data.labels import class_counts
from ..errors import Diverged
from ..metrics import CONFIDENCE_UNIT, METRICS, Metric, Scores, Sums, average_precisions
from ..metrics.names import with_k
from ..models import Networks
from ..parallel import ALONE, Ranks
from ..terminal import counted
from . import seeding, thresholds
from .precision import Precision
from .sums import Summed, total


@dataclass
class Predictions:
    """One network's predictions for every image of a split."""

    indices: np.ndarray
    """int64 [N]: indices of the images in the split."""
    labels: np.ndarray
    """int64 [N]; multi-label: uint8 [N, K]."""
    classes: np.ndarray
    """int64 [N]: the predicted classes; multi-label: uint8 [N, K]."""
    confidence: np.ndarray
    """float32 [N]: probability of the predicted class; multi-label: confidence of the most confident wrong decision,
    else 0."""

    @property
    def is_wrong(self) -> np.ndarray:
        """bool [N]: which images are misclassified; multi-label: which have at least one wrong label."""
        differ = self.labels != self.classes
        return differ.any(axis=1) if differ.ndim == 2 else differ

    @property
    def wrong(self) -> int:
        """Number of misclassified images."""
        return int(self.is_wrong.sum())

    def worst(self, count: int) -> np.ndarray:
        """int64 [<= count]: rows of the wrong predictions with the highest confidence, the worst first."""
        wrong = np.flatnonzero(self.is_wrong)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")][:count]


@dataclass
class Evaluation:
    """Metrics of every trained network on one split."""

    count: int
    """Images that were evaluated, over all processes."""
    values: dict[str, float]
    """`<network>/<metric>`: those of `metrics.METRICS`, then those of the run itself."""
    confusions: dict[str, np.ndarray]
    """Network name → `Sums.confusion`."""
    predictions: dict[str, Predictions] = field(default_factory=dict)
    """Network name → its predictions, where details were asked for."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """Network name → its probabilities, where a metric needs them."""
    thresholds: dict[str, list[float]] = field(default_factory=dict)
    """Network name → multi-label: the best thresholds on these images (`thresholds.best`)."""
    precisions: dict[str, list[float]] = field(default_factory=dict)
    """Network name → multi-label: the average precision of each class."""

    def of(self, network: str) -> dict[str, float]:
        """The metrics of one network, without the network's name in their keys."""
        return {name.partition("/")[2]: value for name, value in self.values.items() if name.startswith(f"{network}/")}


def perfect(labels: np.ndarray, classes: int) -> Sums:
    """The sums if every image were classified rightly and with certainty. labels: int64 [N], or uint8 [N, K]."""
    images, own = len(labels), class_counts(labels, classes)
    if labels.ndim == 2:
        confusion = np.zeros((classes, 2, 2), np.int64)
        confusion[:, 0, 0], confusion[:, 1, 1] = images - own, own
    else:
        confusion = np.diag(own)
    ranking = [(np.array([0, count]), np.array([images - count, 0])) for count in own]
    right = int(own.sum())
    calibration = np.array([[confusion.sum() - right, 0, 0], [right, right, right / CONFIDENCE_UNIT]], np.int64)
    return Sums(confusion, 0.0, images, images, Scores(ranking, calibration))


def undefined(metrics: Iterable[Metric], labels: np.ndarray, classes: int) -> list[str]:
    """Names of the metrics that are not a number on images with these labels, even if all predictions are right.

    Errors: ConfigError of a user-defined metric that fails.
    """
    sums = perfect(labels, classes)
    return [metric.name for metric in metrics if math.isnan(metric.compute(sums))]


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
    chosen: Mapping[str, Sequence[float]] | None = None,
    temperatures: Mapping[str, float] | None = None,
) -> Evaluation:
    """Metrics of every trained network over all batches of all processes, in bounded memory.

    The loss is plain cross entropy whatever the run minimises, so that runs can be compared. `details` keeps three
    numbers an image of this process (multi-label: two a label). `chosen`: network → multi-label threshold of each
    class, by default ½. `temperatures`: network → divisor of the logits for the confidences of the details, by default
    1. Errors: Diverged for outputs that are not finite, ConfigError of a user-defined metric.
    """
    names, metrics = networks.trained, list(metrics)
    with_scores = any(metric.needs_scores for metric in metrics)
    sums = {name: Summed(k, with_scores, (chosen or {}).get(name)) for name in names}
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {name: [] for name in names}
    with untouched(networks):
        for batch in batches:
            for name in names:
                with precision.autocast():
                    logits = networks[name](batch.images)
                logits = logits.astype("float32")
                classes = sums[name].add(logits, batch.labels)
                if details:
                    parts[name].append(_predictions(logits, classes, batch, (temperatures or {}).get(name, 1.0)))
    totals = dict(zip(names, total([*sums.values()], ranks), strict=True))
    _refuse_infinite(totals)

    def values() -> dict[str, float]:
        named = with_k(metrics, k)
        return {f"{name}/{metric.name}": metric.compute(totals[name]) for name in names for metric in named}

    evaluation = Evaluation(
        totals[names[0]].images,
        # A user-defined metric may differ between processes, which would then disagree on the best weights and
        # deadlock: only the first one computes it.
        ranks.broadcast_from_first(values),
        confusions={name: one.confusion for name, one in totals.items()},
        predictions={
            name: Predictions(*map(np.concatenate, zip(*own, strict=True))) for name, own in parts.items() if own
        },
        scores={name: one.scores for name, one in totals.items() if one.scores},
    )
    for name, one in totals.items():
        if one.scores and one.scores.values:
            evaluation.thresholds[name] = thresholds.best(one.scores)
            evaluation.precisions[name] = average_precisions(one)
    return evaluation


def _refuse_infinite(totals: Mapping[str, Sums]) -> None:
    """Errors: Diverged if a network's loss is not finite."""
    for name, one in totals.items():
        if not math.isfinite(one.loss):
            raise Diverged(
                f"The outputs of '{name}' are not finite in evaluation: the loss on {counted(one.images, 'image')} is "
                f"{one.loss}. Lower optimizer.lr, or clip gradients (optimizer.clip_norm=1)."
            )


def _predictions(
    logits: paddle.Tensor, classes: paddle.Tensor, batch: Batch, temperature: float
) -> tuple[np.ndarray, ...]:
    if classes.ndim == 2:
        labels, predicted, probabilities = batch.labels.numpy(), classes.numpy(), F.sigmoid(logits).numpy()
        wrong = np.where(predicted == 1, probabilities, 1 - probabilities) * (labels != predicted)
        return batch.indices, labels, predicted, wrong.max(axis=1)
    confidence = paddle.take_along_axis(F.softmax(logits / temperature), classes.unsqueeze(-1), axis=-1).squeeze(-1)
    return batch.indices, batch.labels.numpy(), classes.numpy(), confidence.numpy()
