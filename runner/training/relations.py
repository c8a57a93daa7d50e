"""Relational distillation losses: how images, or classes, of a batch relate to each other, compared with the peer's."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from ..models.taps import Features
from .losses import log_probabilities

#: Smallest squared length of a vector: a shorter one has no direction, and no gradient.
LEAST = 1e-24


def dist(logits: Tensor, peer: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """T²·(β·inter + γ·intra) of Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022, eq. 8-10.

    Both parts are 1 - Pearson's correlation between the network's and the peer's probabilities at temperature T: inter
    over the classes of an image, averaged over images; intra over the images of a class, averaged over classes. Intra
    sees only the images that are computed at once, and is 0 for a single image. Logits are float [N, K]; returns a
    scalar.
    """
    own, other = (log_probabilities(values / temperature).exp() for values in (logits, peer))
    loss = beta * (1 - _correlation(own, other))
    if len(own) > 1:
        loss = loss + gamma * (1 - _correlation(own.t(), other.t()))
    return temperature**2 * loss


def _correlation(own: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of each row with the other's row, averaged over rows [R, C]; 0 for a constant row."""
    return (unit(_centred(own)) * unit(_centred(other))).sum(axis=-1).mean()


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(axis=-1, keepdim=True)


def unit(vectors: Tensor) -> Tensor:
    """Vectors [..., D] of length 1; one without length stays 0, and has no gradient."""
    return vectors * paddle.rsqrt(paddle.clip(vectors.square().sum(axis=-1, keepdim=True), min=LEAST))


def rkd(own: Tensor, peer: Tensor, distance: float, angle: float) -> Tensor:
    """Relational knowledge distillation (Park et al., CVPR 2019): λ_D·(eq. 5) + λ_A·(eq. 8), of logits or features.

    Float [N, D] and [N, D'], one row an image; returns a scalar. As in the authors' code, the Huber losses are averaged
    over all N² pairs and N³ triplets; if λ_A is not 0, that takes memory for N³ numbers. Both see only the images that
    are computed at once, and are 0 for a single image.
    """
    # Differences in half precision are coarse, and their squares overflow.
    with paddle.amp.auto_cast(enable=False):
        own, peer = (values if values.dtype == paddle.float64 else values.astype("float32") for values in (own, peer))
        differences, others = (values.unsqueeze(1) - values.unsqueeze(0) for values in (own, peer))
        loss = distance * _huber(_distances(differences), _distances(others)) if distance else 0.0 * own.sum()
        return loss + angle * _huber(_cosines(differences), _cosines(others)) if angle else loss


def _huber(own: Tensor, other: Tensor) -> Tensor:
    return F.smooth_l1_loss(own, other)


def _distances(differences: Tensor) -> Tensor:
    """Distances [N, N] between images from their differences [N, N, D], divided by the mean over distinct pairs."""
    lengths = paddle.clip(differences.square().sum(axis=-1), min=LEAST).sqrt()
    count = len(lengths)
    # Where all images are the same there is no distance to divide by.
    mean = paddle.clip(lengths.sum() / max(1, count * (count - 1)), min=LEAST**0.5)
    return lengths / mean * (1 - paddle.eye(count, dtype=lengths.dtype))


def _cosines(differences: Tensor) -> Tensor:
    """Cosines [N, N, N] of the angles at image j between images i and k, from differences [N, N, D]."""
    directions = unit(differences)
    return paddle.matmul(directions, directions, transpose_y=True)


def rkd_of_features(features: Features, peer: Features, distance: float, angle: float) -> Tensor:
    """`rkd` of maps [N, C, H, W] averaged over their pixels, summed over the pairs of layers."""
    pairs = zip(features.values(), peer.values(), strict=True)
    return paddle.add_n([rkd(own.mean([2, 3]), other.mean([2, 3]), distance, angle) for own, other in pairs])
