"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, ICML 2017), also from few images.

If a network makes no mistake on these images, the likelihood has no maximum: the smaller the temperature, the better.
As in Platt's scaling (Probabilistic outputs for support vector machines, 1999) the labels therefore count as if one
more right and one more wrong image had been seen: with N images a label has (N + 1) / (N + 2), and the other classes
share the rest.
"""

from __future__ import annotations

import numpy as np
from paddle import nn

from ..config import Data
from ..data import EvalLoader, Loaders
from .evaluation import untouched
from .precision import Precision

#: Most logits of one network that are used.
LOGITS = 1 << 20
#: Bounds of a temperature: for a network that is always wrong the best would be infinite.
LOW, HIGH = 0.05, 20.0
#: Halvings of the interval, beyond the precision of float32.
HALVINGS = 40


def validated(
    network: nn.Layer, loaders: Loaders, settings: Data, precision: Precision
) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits float32 [N, K] and labels int64 [N] of images spread evenly over the validation split.

    They are at most `LOGITS` numbers; nothing of the network changes. None without a split, and where images have many
    labels.
    """
    split, classes = loaders.source.val, len(loaders.classes)
    if split is None or loaders.many:
        return None
    images = min(len(split), max(1, LOGITS // classes))
    some = split.select(np.linspace(0, len(split) - 1, images).round().astype(np.int64))
    logits: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    with untouched(network):
        for batch in EvalLoader(some, settings):
            with precision.autocast():
                logits.append(network(batch.images).astype("float32").numpy())
            labels.append(batch.labels.numpy())
    return np.concatenate(logits), np.concatenate(labels)


def improving(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The best temperature, or None where it does not surely improve the likelihood of images it was not fitted to.

    Arrays as in `best`. Images are split into two halves (every second one), each of which judges the fit of the other;
    the mean gain has to be two of its standard errors, which it seldom is of a dozen images.
    """
    halves = [slice(0, None, 2), slice(1, None, 2)]
    if len(labels) < len(halves):
        return None
    gains = np.zeros(len(labels))
    for own, other in (halves, halves[::-1]):
        divisors = (1.0, best(logits[own], labels[own]))
        plain, divided = (likelihoods(logits[other], labels[other], divisor) for divisor in divisors)
        gains[other] = divided - plain
    is_sure = gains.mean() > 2 * gains.std(ddof=1) / np.sqrt(len(gains))
    return best(logits, labels) if is_sure else None


def likelihoods(logits: np.ndarray, labels: np.ndarray, divisor: float) -> np.ndarray:
    """The log likelihood of each label under softmax(logits / divisor), float64 [N]."""
    scaled = (logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / divisor
    own = scaled[np.arange(len(labels)), labels]
    return np.asarray(own - np.log(np.exp(scaled).sum(axis=1)))


def best(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T in [0.05, 20] for which softmax(logits / T) has the least cross entropy with labels as above.

    logits: float [N, K]; labels: int64 [N]. It is convex in 1/T, so its slope has one zero.
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    images, classes = shifted.shape
    own = shifted[np.arange(images), labels]
    others = (shifted.sum(axis=1) - own) / max(1, classes - 1)
    wanted = (((images + 1) * own + others) / (images + 2)).mean()
    low, high = 1 / HIGH, 1 / LOW
    for _ in range(HALVINGS):
        inverse = (low + high) / 2
        weights = np.exp(inverse * shifted)
        expected = ((weights * shifted).sum(axis=1) / weights.sum(axis=1)).mean()
        low, high = (inverse, high) if expected < wanted else (low, inverse)
    return float(1 / ((low + high) / 2))
