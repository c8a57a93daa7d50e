"""The metrics of an evaluation: one list, which everything that computes, monitors, stores or shows them iterates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Goal(Enum):
    """Which direction of a metric is better."""

    max = "max"
    min = "min"


#: Bins of the expected calibration error, as in its paper.
CALIBRATION_BINS = 15
#: What sums of confidences are counted in: integers sum exactly, in any order.
CONFIDENCE_UNIT = 2.0**-30


@dataclass(frozen=True)
class Scores:
    """Sums of an evaluation that need the probabilities, not only the predicted classes."""

    ranking: list[tuple[np.ndarray, np.ndarray]]
    """Of each class, by rising probability of it: images of the class and of others that have the same, int64 [B]."""
    calibration: np.ndarray
    """int64 [bins, 3]: images whose largest probability is in a bin, right ones, the sum in `CONFIDENCE_UNIT`;
    multi-label: labels whose probability is in a bin, those that images have, the sum."""
    values: list[np.ndarray] = field(default_factory=list)
    """Of each class the probabilities of its `ranking`, or the lower ends of their bins, float32 [B]; multi-label
    only."""
    in_bins: bool = False
    """Whether they are the lower ends of bins."""


@dataclass(frozen=True)
class Sums:
    """Sums of one network's evaluation, over all images of a split and all processes."""

    confusion: np.ndarray
    """int64 [K, K]: confusion matrix, rows are labels, columns predictions. Multi-label: [K, 2, 2], for each class
    absent or present (row) by predicted absent or present (column)."""
    loss: float
    """Sum of the cross entropies, natural logarithm; multi-label: of their means over classes."""
    top1: int
    """Images whose label is the largest logit; multi-label: images with every label right."""
    topk: int
    """Images whose label is among the k largest logits; 0 if multi-label."""
    scores: Scores | None = None
    """None if no computed metric needs them."""

    @property
    def images(self) -> int:
        """Number of images."""
        return int(self.confusion[0].sum() if self.confusion.ndim == 3 else self.confusion.sum())


@dataclass(frozen=True)
class Metric:
    """A scalar measure of a network's quality."""

    name: str
    """Its part of `val/<network>/<name>`, `test/…` and `final/…`; `{k}` stands for the k of top-k."""
    title: str
    """Its title in tables and plots."""
    goal: Goal
    compute: Callable[[Sums], float]
    is_proportion: bool = False
    """Whether it is a share of the images, so that its standard error is that of a binomial proportion."""
    is_prominent: bool = False
    """Whether narrow tables and plots show it besides the monitored metric."""
    needs_scores: bool = False
    """Whether it is one of `Sums.scores`."""


def _share(part: float, images: int) -> float:
    return part / images if images else math.nan


def _macro_f1(sums: Sums) -> float:
    """Mean over classes of F1 = 2·TP / (2·TP + FP + FN) (van Rijsbergen, 1979), of the classes that have images.

    A class without images in the split is left out; one that is never predicted has 0. It is scikit-learn's
    `f1_score(labels=unique(y_true), average="macro", zero_division=0)`.
    """
    return _macro(sums, of_classes(sums.confusion).f1)


def _macro_precision(sums: Sums) -> float:
    """Mean over classes of the precision TP / (TP + FP), of the classes that have images.

    As with F1 a class that is never predicted has 0. It is scikit-learn's
    `precision_score(labels=unique(y_true), average="macro", zero_division=0)`.
    """
    return _macro(sums, of_classes(sums.confusion).precision)


def _balanced_accuracy(sums: Sums) -> float:
    """Mean recall of the classes that have images in the split (Brodersen et al., ICPR 2010): macro recall.

    It is scikit-learn's `balanced_accuracy_score`.
    """
    return _macro(sums, of_classes(sums.confusion).recall)


def _mcc(sums: Sums) -> float:
    """Matthews correlation coefficient (1975), of several classes R_K of Gorodkin (2004); 0 where either is constant.

    It is scikit-learn's `matthews_corrcoef`.
    """
    labelled, predicted = _margins(sums)
    images = float(sums.images)
    if not images:
        return math.nan
    covariance = images * float(sums.confusion.trace()) - float((labelled * predicted).sum())
    spread = (images**2 - float((labelled**2).sum())) * (images**2 - float((predicted**2).sum()))
    return covariance / math.sqrt(spread) if spread else 0.0


def _cohen_kappa(sums: Sums) -> float:
    """Agreement beyond chance (Cohen, 1960); not a number where chance alone agrees on everything.

    It is scikit-learn's `cohen_kappa_score`.
    """
    labelled, predicted = _margins(sums)
    images = float(sums.images)
    by_chance = float((labelled * predicted).sum())
    agreed = images * float(sums.confusion.trace())
    return (agreed - by_chance) / (images**2 - by_chance) if by_chance < images**2 else math.nan


def _roc_auc(sums: Sums) -> float:
    """Mean over classes of the area under the ROC curve of a class against the others (Fawcett, 2006).

    The area is the probability that an image of the class has a higher probability of it than another one, of equal
    ones half. Of the classes that some images are of, and some are not; it is scikit-learn's `roc_auc_score` of these
    with `average="macro"`.
    """
    areas = []
    for own, others in _ranking(sums):
        pairs = float(own.sum()) * float(others.sum())
        if pairs:
            areas.append(float((own * (2 * others.cumsum() - others)).sum()) / (2 * pairs))
    return sum(areas) / len(areas) if areas else math.nan


def _average_precision(sums: Sums) -> float:
    """Mean over the classes that have images of the average precision: Σ (Rᵢ - Rᵢ₋₁)·Pᵢ over falling thresholds.

    It is scikit-learn's `average_precision_score` of these with `average="macro"`.
    """
    defined = [value for value in average_precisions(sums) if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def average_precisions(sums: Sums) -> list[float]:
    """The average precision of each class; not a number of one without images."""
    return [average_precision(own, others) if own.any() else math.nan for own, others in _ranking(sums)]


def _micro_f1(sums: Sums) -> float:
    """F1 of the decisions on all labels of all images together, 0 where nothing is divided.

    It is scikit-learn's `f1_score(average="micro", zero_division=0)` of a matrix of labels.
    """
    labelled, predicted, right = map(int, (part.sum() for part in _counts(sums.confusion)))
    return 2 * right / max(1, labelled + predicted) if sums.images else math.nan


def _hamming_loss(sums: Sums) -> float:
    """Share of all labels of all images that are decided wrongly, scikit-learn's `hamming_loss`."""
    wrong = sums.confusion[:, 0, 1] + sums.confusion[:, 1, 0]
    return _share(float(wrong.sum()), int(sums.confusion.sum()))


def average_precision(own: np.ndarray, others: np.ndarray) -> float:
    """That of one class: images of it, of which there are some, and others by rising probability, int64 [B]."""
    own, others = own[::-1], others[::-1]
    hits, seen, some = own.cumsum(), (own + others).cumsum(), own > 0
    return float((own[some] * hits[some] / seen[some]).sum()) / float(own.sum())


def _calibration_error(sums: Sums) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017): Σ nᵦ/N · |accuracyᵦ - confidenceᵦ|.

    Over 15 bins of equal width of the largest probability, each open below and closed above. Multi-label: of the
    probability of each label of each image, compared with how many of them have it.
    """
    if sums.scores is None or not sums.images or math.isnan(sums.loss):
        return math.nan
    counts, right, confidence = sums.scores.calibration.T
    return float(abs(right - confidence * CONFIDENCE_UNIT).sum()) / float(counts.sum())


def _ranking(sums: Sums) -> list[tuple[np.ndarray, np.ndarray]]:
    # Probabilities that are not numbers have no order.
    return [] if sums.scores is None or math.isnan(sums.loss) else sums.scores.ranking


def _margins(sums: Sums) -> tuple[np.ndarray, np.ndarray]:
    """Images of each class, and images that were taken for it: float64 [K]."""
    return sums.confusion.sum(axis=1).astype("float64"), sums.confusion.sum(axis=0).astype("float64")


@dataclass(frozen=True)
class OfClasses:
    """What a confusion matrix says of each class: [K]; proportions, float64, are 0 where the divisor is."""

    precision: np.ndarray
    """TP / (TP + FP)."""
    recall: np.ndarray
    """TP / (TP + FN)."""
    f1: np.ndarray
    """2·TP / (2·TP + FP + FN)."""
    images: np.ndarray
    """Images of the class, int64."""


def of_classes(confusion: np.ndarray) -> OfClasses:
    """Precision, recall and F1 of every class. confusion: `Sums.confusion`."""
    labelled, predicted, right = _counts(confusion)
    f1 = 2 * right / (labelled + predicted).clip(1)
    return OfClasses(right / predicted.clip(1), right / labelled.clip(1), f1, labelled)


def _counts(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of each class, images that were taken for it, and both: int64 [K]."""
    if confusion.ndim == 3:
        return confusion[:, 1].sum(axis=1), confusion[:, :, 1].sum(axis=1), confusion[:, 1, 1]
    return confusion.sum(axis=1), confusion.sum(axis=0), confusion.diagonal()


def _macro(sums: Sums, values: np.ndarray) -> float:
    """Mean of values of classes over those that have images."""
    occurs = _counts(sums.confusion)[0] > 0
    return float(values[occurs].mean()) if occurs.any() else math.nan


#: In the order in which tables show them.
METRICS = [
    Metric("top1", "top-1", Goal.max, lambda sums: _share(sums.top1, sums.images), True, True),
    Metric("top{k}", "top-{k}", Goal.max, lambda sums: _share(sums.topk, sums.images), True),
    Metric("macro_f1", "macro-F1", Goal.max, _macro_f1),
    Metric("macro_precision", "macro precision", Goal.max, _macro_precision),
    Metric("balanced_accuracy", "balanced accuracy", Goal.max, _balanced_accuracy),
    Metric("mcc", "Matthews correlation", Goal.max, _mcc),
    Metric("cohen_kappa", "Cohen's kappa", Goal.max, _cohen_kappa),
    Metric("roc_auc", "ROC-AUC", Goal.max, _roc_auc, needs_scores=True),
    Metric("average_precision", "average precision", Goal.max, _average_precision, needs_scores=True),
    Metric("calibration_error", "calibration error", Goal.min, _calibration_error, needs_scores=True),
    Metric("loss", "loss", Goal.min, lambda sums: _share(sums.loss, sums.images), is_prominent=True),
]
#: Those of multi-label data, likewise.
MANY = [
    Metric("average_precision", "mAP", Goal.max, _average_precision, is_prominent=True, needs_scores=True),
    Metric("macro_f1", "macro-F1", Goal.max, _macro_f1, is_prominent=True),
    Metric("micro_f1", "micro-F1", Goal.max, _micro_f1),
    Metric("macro_precision", "macro precision", Goal.max, _macro_precision),
    Metric("balanced_accuracy", "macro recall", Goal.max, _balanced_accuracy),
    Metric("roc_auc", "ROC-AUC", Goal.max, _roc_auc, needs_scores=True),
    Metric("subset_accuracy", "subset accuracy", Goal.max, lambda sums: _share(sums.top1, sums.images), True),
    Metric("hamming_loss", "Hamming loss", Goal.min, _hamming_loss),
    METRICS[-2],
    METRICS[-1],
]
#: Metrics of a single class, named `<key>/<class>`: title, and what of the confusion matrix they are.
PER_CLASS: dict[str, tuple[str, Callable[[OfClasses], np.ndarray]]] = {
    "precision": ("precision", lambda values: values.precision),
    "recall": ("recall", lambda values: values.recall),
    "f1": ("F1", lambda values: values.f1),
}
#: Other names of the same numbers.
ALIASES = {
    "accuracy": "top1", "macro_recall": "balanced_accuracy", "nll": "loss", "ece": "calibration_error",
    "map": "average_precision", "mAP": "average_precision",
}  # fmt: skip
#: What every finished run has, and what counts without validation; `names.headline` has the multi-label one.
HEADLINE = METRICS[0]
#: What training itself counts for multi-label data, in place of top-1 and top-k.
COUNTED = ("subset_accuracy", "hamming_loss")
