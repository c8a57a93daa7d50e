"""The networks of the comparison in PyTorch, layer by layer as this package's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.config import Size
from runner.models.mobilenet_v3 import HEAD_WIDTH, ROWS, TRUNK_WIDTH, Row, make_divisible


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and an activation."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1, activation=None):
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1),
        ]
        super().__init__(*layers, *([activation] if activation else []))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        means = F.adaptive_avg_pool2d(features, 1)
        return features * F.hardsigmoid(self.excite(F.relu(self.squeeze(means))))


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, row: Row, scale: float):
        super().__init__()
        expanded, outputs = make_divisible(scale * row.expanded), make_divisible(scale * row.width)
        activation = nn.Hardswish if row.hardswish else nn.ReLU
        self.is_residual = row.stride == 1 and inputs == outputs
        self.branch = nn.Sequential(
            ConvNorm(inputs, expanded, activation=activation()),
            ConvNorm(expanded, expanded, row.kernel, row.stride, expanded, activation()),
            SqueezeExcitation(expanded) if row.attention else nn.Identity(),
            ConvNorm(expanded, outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.branch(features) if self.is_residual else self.branch(features)


def mobilenet_v3_large_x0_5(classes: int) -> nn.Module:
    """MobileNetV3-large at half width, as `runner.models.MobileNetV3`."""
    channels = make_divisible(8)
    layers: list[nn.Module] = [ConvNorm(3, channels, 3, 2, activation=nn.Hardswish())]
    for row in ROWS[Size.large]:
        layers.append(InvertedResidual(channels, row, 0.5))
        channels = make_divisible(0.5 * row.width)
    width = make_divisible(0.5 * TRUNK_WIDTH[Size.large])
    layers += [
        ConvNorm(channels, width, activation=nn.Hardswish()), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(width, HEAD_WIDTH, 1, bias=False), nn.Hardswish(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(HEAD_WIDTH, classes),
    ]  # fmt: skip
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.branch = nn.Sequential(
            ConvNorm(inputs, outputs, 3, stride, activation=nn.ReLU()), ConvNorm(outputs, outputs, 3)
        )
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.branch(features) + self.shortcut(features))


def resnet18(classes: int) -> nn.Module:
    """ResNet-18, as `paddle.vision.models.resnet18`."""
    layers: list[nn.Module] = [ConvNorm(3, 64, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def build(name: str, classes: int) -> nn.Module:
    """A network by its name."""
    return {"mobilenet_v3_large_x0_5": mobilenet_v3_large_x0_5, "resnet18": resnet18}[name](classes)


def mimic(logits: Tensor, peer: Tensor) -> Tensor:
    """KL divergence from the peer's distribution, as deep mutual learning has it."""
    return F.kl_div(F.log_softmax(logits, 1), F.softmax(peer.detach(), 1), reduction="batchmean")


def losses(networks: list[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of one network, or of two that learn from each other as well."""
    logits = [network(images) for network in networks]
    hard = sum(F.cross_entropy(values, labels) for values in logits)
    if len(logits) == 1:
        return hard
    return hard + mimic(logits[0], logits[1]) + mimic(logits[1], logits[0])


def set_threads(count: int) -> None:
    """Threads of every operator."""
    torch.set_num_threads(count)
