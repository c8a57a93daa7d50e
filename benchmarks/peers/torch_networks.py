"""The networks of the comparison in PyTorch, layer by layer as this package's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runner.config import Size
from runner.models.efficientnet_lite import HEAD_WIDTH as LITE_HEAD_WIDTH
from runner.models.efficientnet_lite import STAGES, STEM_WIDTH
from runner.models.mobilenet_v3 import HEAD_WIDTH, ROWS, TRUNK_WIDTH, Row, make_divisible


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and an activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: type[nn.Module] | None = None,
    ) -> None:
        layers = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1),
        ]
        super().__init__(*layers, *([activation] if activation else []))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels: int) -> None:
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


def mobilenet_v3_large(classes: int, scale: float) -> nn.Module:
    """MobileNetV3-large, as `runner.models.MobileNetV3`."""
    channels = make_divisible(16 * scale)
    layers: list[nn.Module] = [ConvNorm(3, channels, 3, 2, activation=nn.Hardswish())]
    for row in ROWS[Size.large]:
        layers.append(InvertedResidual(channels, row, scale))
        channels = make_divisible(scale * row.width)
    width = make_divisible(scale * TRUNK_WIDTH[Size.large])
    layers += [
        ConvNorm(channels, width, activation=nn.Hardswish()), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(width, HEAD_WIDTH, 1, bias=False), nn.Hardswish(), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(HEAD_WIDTH, classes),
    ]  # fmt: skip
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            ConvNorm(inputs, outputs, 3, stride, activation=nn.ReLU()), ConvNorm(outputs, outputs, 3)
        )
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if stride > 1 or inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.branch(features) + self.shortcut(features))


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        inner = outputs // 4
        self.branch = nn.Sequential(
            ConvNorm(inputs, inner, activation=nn.ReLU()),
            ConvNorm(inner, inner, 3, stride, activation=nn.ReLU()),
            ConvNorm(inner, outputs),
        )
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.branch(features) + self.shortcut(features))


def resnet(classes: int, block: type[nn.Module], width: int, counts: tuple[int, ...]) -> nn.Module:
    """A ResNet, as in `paddle.vision.models`; `width`: channels of the first stage."""
    layers: list[nn.Module] = [ConvNorm(3, 64, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs, outputs = 64, width
    for stage, count in enumerate(counts):
        for number in range(count):
            layers.append(block(inputs, outputs, 2 if stage and not number else 1))
            inputs = outputs
        outputs *= 2
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class LiteBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        expanded = inputs * expansion
        expand = [ConvNorm(inputs, expanded, activation=nn.ReLU6())] if expansion > 1 else []
        self.is_residual = stride == 1 and inputs == outputs
        self.branch = nn.Sequential(
            *expand, ConvNorm(expanded, expanded, kernel, stride, expanded, nn.ReLU6()), ConvNorm(expanded, outputs)
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.branch(features) if self.is_residual else self.branch(features)


def efficientnet_lite0(classes: int) -> nn.Module:
    """EfficientNet-Lite0, as `runner.models.EfficientNetLite`, without dropped connections."""
    layers: list[nn.Module] = [ConvNorm(3, STEM_WIDTH, 3, 2, activation=nn.ReLU6())]
    channels = STEM_WIDTH
    for stage in STAGES:
        for repeat in range(stage.blocks):
            layers.append(
                LiteBlock(channels, stage.width, stage.kernel, 1 if repeat else stage.stride, stage.expansion)
            )
            channels = stage.width
    layers += [ConvNorm(channels, LITE_HEAD_WIDTH, activation=nn.ReLU6()), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(LITE_HEAD_WIDTH, classes))


#: PP-LCNet's blocks: kernel, output channels, stride, squeeze and excitation.
LCNET = [
    (3, 32, 1, False), (3, 64, 2, False), (3, 64, 1, False), (3, 128, 2, False), (3, 128, 1, False), (3, 256, 2, False),
    *[(5, 256, 1, False)] * 5, (5, 512, 2, True), (5, 512, 1, True),
]  # fmt: skip


def pp_lcnet(classes: int) -> nn.Module:
    """PP-LCNet x1.0 (Cui et al., 2021), as `PPLCNet_x1_0` of PaddleClas."""
    layers: list[nn.Module] = [ConvNorm(3, 16, 3, 2, activation=nn.Hardswish())]
    channels = 16
    for kernel, outputs, stride, attention in LCNET:
        layers += [
            ConvNorm(channels, channels, kernel, stride, channels, nn.Hardswish()),
            SqueezeExcitation(channels) if attention else nn.Identity(),
            ConvNorm(channels, outputs, activation=nn.Hardswish()),
        ]
        channels = outputs
    layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 1280, 1, bias=False), nn.Hardswish(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1280, classes))


def build(name: str, classes: int) -> nn.Module:
    """A network by its name."""
    match name:
        case "mobilenet_v3_large_x0_5":
            return mobilenet_v3_large(classes, 0.5)
        case "mobilenet_v3_large_x1_0":
            return mobilenet_v3_large(classes, 1.0)
        case "resnet18":
            return resnet(classes, BasicBlock, 64, (2, 2, 2, 2))
        case "resnet50":
            return resnet(classes, Bottleneck, 256, (3, 4, 6, 3))
        case "efficientnet_lite0":
            return efficientnet_lite0(classes)
        case "paddleclas/PPLCNet_x1_0":
            return pp_lcnet(classes)
    raise ValueError(f"there is no {name} here")


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
