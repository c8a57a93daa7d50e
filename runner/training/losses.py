"""Losses of logits against labels and of logits against a peer's logits."""

from __future__ import annotations

from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .. import config as cfg
from ..config.targets import load_target

#: (logits [N, K], labels [N]) → scalar
HardLoss = Callable[[Tensor, Tensor], Tensor]
#: (logits [N, K], the peer's logits [N, K]) → scalar
MimicLoss = Callable[[Tensor, Tensor], Tensor]

#: The constant of the original's `KLJSLoss`.
ORIGINAL_EPSILON = 1e-5


def build(config: cfg.Loss) -> HardLoss:
    """The loss that the config chooses."""
    match config:
        case cfg.CrossEntropy():
            return cross_entropy
        case cfg.LabelSmoothing(epsilon=epsilon):
            return lambda logits, labels: label_smoothing(logits, labels, epsilon)
        case cfg.CustomLoss(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda logits, labels: custom(logits, labels, **kwargs)
    raise AssertionError(config)


def build_mimic(config: cfg.Mimic) -> MimicLoss:
    """The mimic loss that the config chooses, without its weight."""
    match config:
        case cfg.Dml():
            return kl_divergence
        case cfg.Kl(temperature=temperature):
            return lambda logits, peer: kl_divergence(logits, peer, temperature)
        case cfg.Kd(alpha=alpha, temperature=temperature):
            return lambda logits, peer: alpha * temperature**2 * kl_divergence(logits, peer, temperature)
        case cfg.JsOriginal(divergence=divergence, reduction=reduction):
            formula = js_original if divergence is cfg.Divergence.js else kl_original
            return lambda logits, peer: formula(logits, peer, reduction.name)
        case cfg.CustomMimic(target=target, kwargs=kwargs):
            custom = load_target(target)
            return lambda logits, peer: custom(logits, peer, **kwargs)
    raise AssertionError(config)


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax over the last axis, at least in float32.

    Paddle 3.3.1's own clips at -64 on a CPU, which cuts off loss and gradient of a label that is that unlikely.
    """
    wide = logits if logits.dtype in (paddle.float32, paddle.float64) else logits.astype("float32")
    return wide - paddle.logsumexp(wide, axis=-1, keepdim=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of -log softmax(logits)[label]. logits: float [N, K]; labels: int64 [N]; returns a scalar."""
    return F.nll_loss(log_probabilities(logits), labels)


def label_smoothing(logits: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """Cross entropy with the target (1-ε)·onehot + ε/K (Szegedy et al., CVPR 2016).

    logits: float [N, K]; labels: int64 [N]; returns the mean over the batch, a scalar.
    """
    logs = log_probabilities(logits)
    return (1 - epsilon) * F.nll_loss(logs, labels) - epsilon * logs.mean()


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
