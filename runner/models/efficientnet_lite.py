"""EfficientNet-Lite (Tan and Le, EfficientNet, ICML 2019, without the operations that are slow on small devices)."""

from __future__ import annotations

import math
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import KaimingNormal, Normal

from .mobilenet_v3 import ActivatedNorm, Activation, identity, make_divisible


class Stage(NamedTuple):
    """Blocks of one width: a row of the paper's table 1 at width and depth 1."""

    kernel: int
    expansion: int
    width: int
    blocks: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 6, 24, 2, 2),
    Stage(5, 6, 40, 2, 2),
    Stage(3, 6, 80, 3, 2),
    Stage(5, 6, 112, 3, 1),
    Stage(5, 6, 192, 4, 2),
    Stage(3, 6, 320, 1, 1),
)
#: Width and depth multipliers of Lite0 to Lite4.
FACTORS = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
STEM_WIDTH, HEAD_WIDTH = 32, 1280
EPSILON = 1e-3


class ConvNorm(nn.Layer):
    """Convolution, batch normalisation and activation; [N, C, H, W] gives ⌈H/stride⌉ rows.

    If an even side is halved, padding is added only below and on the right, as TensorFlow's `SAME` does: published
    weights were trained with that.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, activation: Activation
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2D(
            inputs,
            outputs,
            kernel,
            stride,
            padding="SAME" if stride > 1 else kernel // 2,
            groups=groups,
            weight_attr=ParamAttr(initializer=KaimingNormal()),
            bias_attr=False,
        )
        self.bn = ActivatedNorm(outputs, activation, EPSILON)

    def forward(self, features: Tensor) -> Tensor:
        return self.bn(self.conv(features))


class DropConnect(nn.Layer):
    """In training, drops the maps [C, H, W] of an image with probability p, and scales the others by 1/(1-p).

    Huang et al., Deep Networks with Stochastic Depth, ECCV 2016.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def kept(self, images: int) -> Tensor:
        """float32 [images]: 0 for dropped images, 1/(1-p) for the others."""
        return F.dropout(paddle.ones([images], "float32"), self.p)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or not self.p:
            return features
        return features * self.kept(features.shape[0]).astype(features.dtype).reshape([-1, 1, 1, 1])


class Block(nn.Layer):
    """Expansion (if it widens), depthwise convolution and linear projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, drop: float) -> None:
        super().__init__()
        expanded = inputs * expansion
        self.expand = ConvNorm(inputs, expanded, activation=F.relu6) if expansion > 1 else None
        self.depthwise = ConvNorm(expanded, expanded, kernel, stride=stride, groups=expanded, activation=F.relu6)
        self.project = ConvNorm(expanded, outputs, activation=identity)
        self.drop = DropConnect(drop) if stride == 1 and inputs == outputs else None

    def forward(self, features: Tensor) -> Tensor:
        branch = features if self.expand is None else self.expand(features)
        branch = self.project(self.depthwise(branch))
        return branch if self.drop is None else features + self.drop(branch)


class EfficientNetLite(nn.Layer):
    """EfficientNet-Lite0 to Lite4: no squeeze-excitation, ReLU6, and a stem and head of fixed width.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. Parameters are named `stem.conv.weight`,
    `blocks.0.depthwise.bn.bias` …, `head.conv.weight`, `fc.weight`. `drop_connect` is the probability at the last
    block; it rises linearly from 0 at the first. Initial weights depend on `paddle.seed` alone, and are drawn as
    MobileNetV3's.
    """

    def __init__(self, version: int, num_classes: int, dropout: float, drop_connect: float) -> None:
        super().__init__()
        width, depth = FACTORS[version]
        self.stem = ConvNorm(3, STEM_WIDTH, 3, stride=2, activation=F.relu6)
        count = sum(_repeats(number, depth) for number in range(len(STAGES)))
        blocks: list[nn.Layer] = []
        channels = STEM_WIDTH
        for number, stage in enumerate(STAGES):
            outputs = make_divisible(width * stage.width)
            for repeat in range(_repeats(number, depth)):
                stride = 1 if repeat else stage.stride
                drop = drop_connect * len(blocks) / count
                blocks.append(Block(channels, outputs, stage.kernel, stride, stage.expansion, drop))
                channels = outputs
        self.blocks = nn.LayerList(blocks)
        self.head = ConvNorm(channels, HEAD_WIDTH, activation=F.relu6)
        self.pool, self.dropout = nn.AdaptiveAvgPool2D(1), nn.Dropout(dropout)
        self.fc = nn.Linear(HEAD_WIDTH, num_classes, weight_attr=ParamAttr(initializer=Normal(0.0, 0.01)))

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        for block in self.blocks:
            features = block(features)
        return self.fc(self.dropout(self.pool(self.head(features)).flatten(1)))


def _repeats(number: int, depth: float) -> int:
    """Number of blocks of a stage; the first and the last stage are not scaled in depth."""
    is_outer = number in (0, len(STAGES) - 1)
    return STAGES[number].blocks if is_outer else math.ceil(depth * STAGES[number].blocks)
