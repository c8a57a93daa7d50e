"""Multi-label losses: each class is an independent binary decision. All are means over images and classes."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target
from .losses import Classes, HardLoss, class_weights, scalar

#: Probabilities are at least this large where 0 would give infinite numbers or slopes.
TINY = 1e-12


def build(config: cfg.Loss, classes: Classes | None = None) -> HardLoss:
    """The multi-label loss that the config chooses; labels are uint8 [N, K].

    Errors: ConfigError for class weights that do not fit the classes.
    """
    weights = None
    if isinstance(config, cfg.WeightedLoss) and config.class_weights is not None:
        assert classes is not None
        weights = paddle.to_tensor(positive_weights(config.class_weights, classes), dtype="float32")
    match config:
        case cfg.Bce(epsilon=epsilon):
            return lambda logits, labels: cross_entropy(logits, labels, epsilon, weights)
        case cfg.Focal(gamma=gamma):
            return lambda logits, labels: asymmetric(logits, labels, gamma, gamma, 0.0, weights)
        case cfg.Asl(gamma_positive=positive, gamma_negative=negative, margin=margin):
            return lambda logits, labels: asymmetric(logits, labels, positive, negative, margin)
        case cfg.CustomLoss(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda logits, labels: scalar(
                custom(logits, labels.astype("float32"), **kwargs), f"loss.target={target}"
            )
    raise AssertionError(config)


def positive_weights(wanted: object, classes: Classes) -> np.ndarray:
    """The factors of positive labels that `loss.class_weights` means, one a class: float64 [K].

    `auto` is (N - n) / n for a class that n of N images have, 1 for one that none or all have. Errors: as in
    `class_weights`.
    """
    if wanted != "auto":
        return class_weights(wanted, classes)
    present, absent = classes.counts, classes.images - classes.counts
    return np.where((present > 0) & (absent > 0), absent / np.maximum(present, 1), 1.0)


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p and log(1-p) with p = sigmoid(logits), at least in float32."""
    wide = logits if logits.dtype in (paddle.float32, paddle.float64) else logits.astype("float32")
    present = F.log_sigmoid(wide)
    return present, present - wide


def cross_entropy(logits: Tensor, labels: Tensor, epsilon: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Mean over images and classes of -y·w·log p - (1-y)·log(1-p) with y = label·(1-ε) + ε/2.

    logits: float [N, K]; labels: uint8 [N, K]; weights: float32 [K]; returns a scalar.
    """
    present, absent = log_probabilities(logits)
    targets = labels.astype(present.dtype) * (1 - epsilon) + epsilon / 2
    positive = targets * present if weights is None else targets * present * weights.astype(present.dtype)
    return -(positive + (1 - targets) * absent).mean()


def asymmetric(
    logits: Tensor,
    labels: Tensor,
    gamma_positive: float,
    gamma_negative: float,
    margin: float,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean over images and classes of -w·(1-p)^γ₊·log p where the label is 1, else -q^γ₋·log(1-q), q = max(p-m, 0).

    Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021, eq. 7, with its gradient through the
    powers; with m = 0 and one γ it is the focal loss (Lin et al., ICCV 2017). Shapes as in `cross_entropy`.
    """
    present, absent = log_probabilities(logits)
    positive = _power(absent.exp(), gamma_positive) * present
    if weights is not None:
        positive = positive * weights.astype(positive.dtype)
    shifted = paddle.clip(present.exp() - margin, min=0)
    # log(1 - p) without a margin keeps its precision where p is almost 1.
    rest = paddle.log(paddle.clip(1 - shifted, min=TINY)) if margin else absent
    chosen = labels.astype(present.dtype)
    return -(chosen * positive + (1 - chosen) * _power(shifted, gamma_negative) * rest).mean()


def _power(values: Tensor, gamma: float) -> float | Tensor:
    # At 0 an exponent below 1 would have an infinite slope, and an exponent of 0 a NaN one.
    return paddle.clip(values, min=TINY) ** gamma if gamma else 1.0


def kl_divergence(logits: Tensor, peer: Tensor, temperature: float = 1.0) -> Tensor:
    """Binary KL(peer ‖ network) of each label, mean over images and classes; both float [N, K]."""
    present, absent = log_probabilities(logits / temperature)
    peer_present, peer_absent = log_probabilities(peer / temperature)
    return (peer_present.exp() * (peer_present - present) + peer_absent.exp() * (peer_absent - absent)).mean()
