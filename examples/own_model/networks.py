"""A network and a loss of one's own."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn


def build(num_classes: int, width: int = 16) -> nn.Layer:
    """Three convolutions with normalisation, pooled: float32 [N, 3, S, S] to logits float32 [N, num_classes]."""
    layers: list[nn.Layer] = []
    channels = 3
    for number in range(3):
        layers += [nn.Conv2D(channels, width << number, 3, stride=2, padding=1, bias_attr=False)]
        layers += [nn.BatchNorm2D(width << number), nn.ReLU()]
        channels = width << number
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(channels, num_classes))


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 1.0) -> Tensor:
    """Cross entropy that counts what is right already less (Lin et al., Focal Loss, ICCV 2017).

    logits: float [N, K]; labels: int64 [N]; returns a scalar.
    """
    logs = F.log_softmax(logits.astype("float32"))
    right = paddle.take_along_axis(logs, labels.unsqueeze(-1), axis=-1).squeeze(-1)
    return ((1 - right.exp()) ** gamma * -right).mean()
