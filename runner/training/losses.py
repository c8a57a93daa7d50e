"""Losses of logits against labels and of logits against a peer's logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target, wrong_result
from ..errors import ConfigError, nearest
from ..terminal import counted, word_for

#: (logits [N, K], labels [N], or [N, K] if they are soft) → scalar
HardLoss = Callable[[Tensor, Tensor], Tensor]

#: The constant of the original's `KLJSLoss`.
ORIGINAL_EPSILON = 1e-5


@dataclass(frozen=True)
class Classes:
    """The classes, and how often they occur, for losses that weigh them."""

    names: list[str]
    counts: np.ndarray
    """int64 [K]: images of each class in an epoch, as they are sampled; of soft labels float64, the sums of shares."""
    images: int = 0
    """Multi-label: all images of an epoch."""
    own_order: list[str] | None = None
    """The names in the order of the data set, which is what positions in the config mean; None: that of `names`."""


def build(config: cfg.Loss, classes: Classes | None = None) -> HardLoss:
    """The loss that the config chooses; only one with class weights needs `classes`.

    Errors: ConfigError for class weights that do not fit the classes.
    """
    weights = None
    if isinstance(config, cfg.WeightedLoss) and config.class_weights is not None:
        assert classes is not None
        weights = paddle.to_tensor(class_weights(config.class_weights, classes), dtype="float32")
    match config:
        case cfg.CrossEntropy():
            return lambda logits, labels: cross_entropy(logits, labels, weights)
        case cfg.LabelSmoothing(epsilon=epsilon):
            return lambda logits, labels: label_smoothing(logits, labels, epsilon, weights)
        case cfg.Focal(gamma=gamma):
            return lambda logits, labels: focal(logits, labels, gamma, weights)
        case cfg.LogitAdjustment(tau=tau):
            assert classes is not None
            # A class without images counts as if it had one.
            frequencies = np.maximum(classes.counts, 1) / classes.counts.sum()
            shifts = paddle.to_tensor(tau * np.log(frequencies), dtype="float32")
            return lambda logits, labels: cross_entropy(logits.astype("float32") + shifts, labels)
        case cfg.CustomLoss(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda logits, labels: scalar(custom(logits, labels, **kwargs), f"loss.target={target}")
    raise AssertionError(config)


def scalar(value: Any, setting: str) -> Tensor:
    """The value of a user-defined loss. Errors: ConfigError for anything but a tensor of one floating-point number."""
    if not isinstance(value, paddle.Tensor) or value.size != 1 or not value.is_floating_point():
        raise wrong_result(
            setting, value, "a paddle.Tensor with one floating-point number, such as the mean over images"
        )
    return value


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax over the last axis, at least in float32.

    Paddle 3.3.1's own clips at -64 on a CPU, which cuts off the loss and gradient of a label that unlikely.
    """
    wide = logits if logits.dtype in (paddle.float32, paddle.float64) else logits.astype("float32")
    return wide - paddle.logsumexp(wide, axis=-1, keepdim=True)


def class_weights(wanted: Any, classes: Classes) -> np.ndarray:
    """The factors of the classes, float64 [K] in the order of `classes.names`, that `loss.class_weights` means.

    A list is in the order of `classes.own_order`. `auto` is N / (K·n) for a class with n of the N images of an epoch
    (`balanced` in scikit-learn), with K the number of classes that have images; classes without images, which no loss
    meets, get 0. Errors: ConfigError for a wrong number of factors, for a name that is not a class, and if all are 0.
    """
    names, counts, own_order = classes.names, classes.counts, classes.own_order or classes.names
    if wanted == "auto":
        return np.where(counts > 0, counts.sum() / ((counts > 0).sum() * np.maximum(counts, 1)), 0.0)
    if not isinstance(wanted, dict):
        if len(wanted) != len(names):
            be, count = word_for(len(names), "is", "are"), counted(len(names), "class", "classes")
            raise ConfigError(
                f"loss.class_weights={wanted}: there {be} {count}, and each needs a number, in their "
                f"order: {_listed(own_order)}"
            )
        wanted = dict(zip(own_order, wanted, strict=True))
    by_name = {str(name): weight for name, weight in wanted.items()}
    for name in by_name:
        if name not in names:
            raise ConfigError(
                f"loss.class_weights.{name}: there is no such class.{nearest(name, names)} Valid: {_listed(names)}"
            )
    weights = np.array([by_name.get(name, 1.0) for name in names], dtype=np.float64)
    if not weights.any():
        raise ConfigError(
            f"loss.class_weights={wanted}: every class has 0, so nothing would be learnt. Give one a number above 0."
        )
    return weights


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:10])}{', …' if len(names) > 10 else ''}"


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over the batch of -log softmax(logits)[label], times the weight of the label's class.

    logits: float [N, K]; labels: int64 [N], or soft labels, float [N, K]; weights: float32 [K]; returns a scalar.
    """
    logs = log_probabilities(logits)
    if labels.ndim == 1 and weights is None:
        return F.nll_loss(logs, labels)
    return _of_labels(-logs, labels, weights)


def label_smoothing(logits: Tensor, labels: Tensor, epsilon: float, weights: Tensor | None = None) -> Tensor:
    """Cross entropy with the target (1-ε)·onehot(label) + ε/K (Szegedy et al., CVPR 2016).

    Shapes as in `cross_entropy`. An image's whole loss is multiplied by the weight of its label.
    """
    logs = log_probabilities(logits)
    if labels.ndim == 1 and weights is None:
        return (1 - epsilon) * F.nll_loss(logs, labels) - epsilon * logs.mean()
    spread = logs.mean(axis=-1, keepdim=True).expand(logs.shape)
    return _of_labels(-(1 - epsilon) * logs - epsilon * spread, labels, weights)


def focal(logits: Tensor, labels: Tensor, gamma: float, weights: Tensor | None = None) -> Tensor:
    """Mean over the batch of -(1-p)^γ·log p with p the label's probability (Lin et al., ICCV 2017).

    Class weights take the role of the paper's α. Shapes as in `cross_entropy`.
    """
    logs = log_probabilities(logits)
    # Where p is 1, an exponent below 1 would have an infinite slope.
    unsure = paddle.clip(-paddle.expm1(logs), min=1e-12)
    return _of_labels(-(unsure**gamma) * logs, labels, weights)


def _of_labels(losses: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over images of the losses [N, K] at their labels (or weighted by soft labels), times the class weights.

    It is divided by the number of images, not by the sum of weights, so that parts of a batch add up to the whole.
    """
    if weights is not None:
        losses = losses * weights.astype(losses.dtype)
    if labels.ndim == 1:
        return paddle.take_along_axis(losses, labels.unsqueeze(-1), axis=-1).mean()
    return (labels.astype(losses.dtype) * losses).sum(axis=-1).mean()


def kl_divergence(logits: Tensor, peer: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(peer ‖ network), summed over classes and averaged over the batch (Zhang et al., CVPR 2018, eq. 3).

    Both float [N, K], divided by the temperature before the softmax; returns a scalar.
    """
    network_logs = log_probabilities(logits / temperature)
    peer_logs = log_probabilities(peer / temperature)
    return (peer_logs.exp() * (peer_logs - network_logs)).sum(axis=-1).mean()


def kl_original(logits: Tensor, peer: Tensor, reduction: str = "mean") -> Tensor:
    """One-sided term of the original's `KLJSLoss`: p₂·log((p₂+ε)/(p₁+ε) + ε) with p₁ the network, p₂ the peer.

    Both float [N, K]; reduction over all N·K elements: mean, sum or none (which keeps [N, K]). The second ε makes it
    slightly positive for equal inputs; that is how the original has it.
    """
    return _reduce(_kl_elements(F.softmax(logits), F.softmax(peer)), reduction)


def js_original(logits: Tensor, peer: Tensor, reduction: str = "mean") -> Tensor:
    """Symmetric form of the original's `KLJSLoss`: ½·(kl(p₁, p₂) + kl(p₂, p₁)). Shapes as in `kl_original`."""
    network, other = F.softmax(logits), F.softmax(peer)
    return _reduce(0.5 * (_kl_elements(network, other) + _kl_elements(other, network)), reduction)


def _kl_elements(p1: Tensor, p2: Tensor) -> Tensor:
    return p2 * paddle.log((p2 + ORIGINAL_EPSILON) / (p1 + ORIGINAL_EPSILON) + ORIGINAL_EPSILON)


def _reduce(elements: Tensor, reduction: str) -> Tensor:
    match reduction:
        case "mean":
            return elements.mean()
        case "sum":
            return elements.sum()
    return elements
