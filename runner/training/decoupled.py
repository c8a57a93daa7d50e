"""Decoupled knowledge distillation: the label's probability, and the ranking of the other classes, as two terms."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .losses import log_probabilities

#: Added to a label's logit: its probability among the other classes is then 0.
ABSENT = -1e9


def dkd(logits: Tensor, peer: Tensor, labels: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """T²·(α·TCKD + β·NCKD) of Zhao et al., Decoupled Knowledge Distillation, CVPR 2022, eq. 7.

    At temperature T, TCKD is KL(peer ‖ network) of the label against all other classes, NCKD that of the other classes
    among themselves; both are means over images. Logits are float [N, K], labels int64 [N]; returns a scalar.
    """
    chosen = F.one_hot(labels, logits.shape[-1])
    target, others = _parts(logits / temperature, chosen)
    peer_target, peer_others = _parts(peer / temperature, chosen)
    return temperature**2 * (alpha * _kl(target, peer_target) + beta * _kl(others, peer_others))


def _parts(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """log probabilities of label and rest [N, 2], and of the other classes among themselves [N, K]."""
    logs = log_probabilities(logits)
    others = logs + ABSENT * chosen.astype(logs.dtype)
    rest = paddle.logsumexp(others, axis=-1)
    target = (logs * chosen.astype(logs.dtype)).sum(axis=-1)
    return paddle.stack([target, rest], axis=-1), others - rest.unsqueeze(-1)


def _kl(logs: Tensor, peer_logs: Tensor) -> Tensor:
    return (peer_logs.exp() * (peer_logs - logs)).sum(axis=-1).mean()
