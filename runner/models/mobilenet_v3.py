"""MobileNetV3 (Howard et al., Searching for MobileNetV3, ICCV 2019)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import KaimingNormal, Normal

from ..config import Size

Activation = Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """One line of the paper's tables 1 and 2: an inverted residual block at scale 1."""

    kernel: int
    expanded: int
    width: int
    attention: bool
    hardswish: bool
    stride: int


ROWS = {
    Size.large: (
        Row(3, 16, 16, False, False, 1),
        Row(3, 64, 24, False, False, 2),
        Row(3, 72, 24, False, False, 1),
        Row(5, 72, 40, True, False, 2),
        Row(5, 120, 40, True, False, 1),
        Row(5, 120, 40, True, False, 1),
        Row(3, 240, 80, False, True, 2),
        Row(3, 200, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
        Row(3, 184, 80, False, True, 1),
        Row(3, 480, 112, True, True, 1),
        Row(3, 672, 112, True, True, 1),
        Row(5, 672, 160, True, True, 2),
        Row(5, 960, 160, True, True, 1),
        Row(5, 960, 160, True, True, 1),
    ),
    Size.small: (
        Row(3, 16, 16, True, False, 2),
        Row(3, 72, 24, False, False, 2),
        Row(3, 88, 24, False, False, 1),
        Row(5, 96, 40, True, True, 2),
        Row(5, 240, 40, True, True, 1),
        Row(5, 240, 40, True, True, 1),
        Row(5, 120, 48, True, True, 1),
        Row(5, 144, 48, True, True, 1),
        Row(5, 288, 96, True, True, 2),
        Row(5, 576, 96, True, True, 1),
        Row(5, 576, 96, True, True, 1),
    ),
}
TRUNK_WIDTH = {Size.large: 960, Size.small: 576}
HEAD_WIDTH = 1280


def make_divisible(width: float) -> int:
    """The multiple of 8 nearest to `width`, but at least 8 and at least 90 % of `width`."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def convolution(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, bias: bool
) -> nn.Layer:
    """A convolution that keeps the map's size at stride 1, its weights drawn as He et al. (ICCV 2015) propose.

    Paddle's own default counts all input channels of a grouped convolution and starts depthwise kernels near zero.
    """
    return nn.Conv2D(
        inputs,
        outputs,
        kernel,
        stride,
        padding=kernel // 2,
        groups=groups,
        weight_attr=ParamAttr(initializer=KaimingNormal()),
        bias_attr=None if bias else False,
    )


def identity(features: Tensor) -> Tensor:
    return features


class ActivatedNorm(nn.BatchNorm2D):
    """Batch normalisation of features of any rank from [N, C] on, and an activation.

    Its running averages keep 0.9 of their value in each step, unless `_momentum` is set.
    """

    def __init__(self, channels: int, activation: Activation, epsilon: float = 1e-5) -> None:
        super().__init__(channels, momentum=0.9, epsilon=epsilon)
        self.activation = activation

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, features: Tensor) -> Tensor:
        return self.activation(super().forward(features))


class Gate(nn.Layer):
    """Maps [N, C, H, W] times gates [N, C, 1, 1]."""

    def forward(self, features: Tensor, gates: Tensor) -> Tensor:
        return features * gates


class ConvNorm(nn.Layer):
    """Convolution, batch normalisation and activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = identity,
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)
        self.bn = ActivatedNorm(outputs, activation)

    def forward(self, features: Tensor) -> Tensor:
        return self.bn(self.conv(features))


class SqueezeExcitation(nn.Layer):
    """Scales every channel by a gate computed from the means of all channels (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, relu: Activation, reduction: int = 4) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels // reduction, bias=True)
        self.conv2 = convolution(channels // reduction, channels, bias=True)
        self.relu = relu
        self.pool, self.gate = nn.AdaptiveAvgPool2D(1), Gate()

    def forward(self, features: Tensor) -> Tensor:
        gates = F.hardsigmoid(self.conv2(self.relu(self.conv1(self.pool(features)))), slope=0.2, offset=0.5)
        return self.gate(features, gates)


class InvertedResidual(nn.Layer):
    """Expansion, depthwise convolution, optional squeeze-excitation and linear projection."""

    def __init__(self, inputs: int, row: Row, scale: float, relu: Activation) -> None:
        super().__init__()
        expanded, outputs = make_divisible(scale * row.expanded), make_divisible(scale * row.width)
        activation = F.hardswish if row.hardswish else relu
        self.is_residual = row.stride == 1 and inputs == outputs
        self.expand_conv = ConvNorm(inputs, expanded, activation=activation)
        self.bottleneck_conv = ConvNorm(
            expanded, expanded, row.kernel, stride=row.stride, groups=expanded, activation=activation
        )
        self.mid_se = SqueezeExcitation(expanded, relu) if row.attention else None
        self.linear_conv = ConvNorm(expanded, outputs)

    def forward(self, features: Tensor) -> Tensor:
        branch = self.bottleneck_conv(self.expand_conv(features))
        if self.mid_se is not None:
            branch = self.mid_se(branch)
        branch = self.linear_conv(branch)
        return features + branch if self.is_residual else branch


class Trunk(nn.Layer):
    """The convolutions of MobileNetV3 up to the global pooling.

    `features` maps images [N, 3, H, W] float32 to [N, `width`, ⌈H/32⌉, ⌈W/32⌉].
    """

    def __init__(self, size: Size, scale: float, relu: Activation | None = None) -> None:
        super().__init__()
        relu = relu or F.relu
        channels = make_divisible(scale * 16)
        self.conv1 = ConvNorm(3, channels, 3, stride=2, activation=F.hardswish)
        self.block_names = [f"conv{number}" for number in range(2, 2 + len(ROWS[size]))]
        for name, row in zip(self.block_names, ROWS[size], strict=True):
            self.add_sublayer(name, InvertedResidual(channels, row, scale, relu))
            channels = make_divisible(scale * row.width)
        self.width = make_divisible(scale * TRUNK_WIDTH[size])
        self.last_second_conv = ConvNorm(channels, self.width, activation=F.hardswish)

    def features(self, images: Tensor) -> Tensor:
        features = self.conv1(images)
        for name in self.block_names:
            features = getattr(self, name)(features)
        return self.last_second_conv(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images)


def head_layers(width: int, num_classes: int, dropout: float) -> tuple[nn.Layer, nn.Layer, nn.Layer, nn.Layer]:
    """Global pooling and what follows it: `pool`, `last_conv`, `dropout`, `out`.

    They are attributes of the network itself, not a layer of their own, because weights are stored under those names.
    """
    last_conv = convolution(width, HEAD_WIDTH, bias=False)
    out = nn.Linear(HEAD_WIDTH, num_classes, weight_attr=ParamAttr(initializer=Normal(0.0, 0.01)))
    return nn.AdaptiveAvgPool2D(1), last_conv, nn.Dropout(dropout, mode="downscale_in_infer"), out


def classify(features: Tensor, pool: nn.Layer, last_conv: nn.Layer, dropout: nn.Layer, out: nn.Layer) -> Tensor:
    """Logits [N, classes] from feature maps [N, width, H, W]."""
    return out(dropout(F.hardswish(last_conv(pool(features)))).flatten(1))


class MobileNetV3(Trunk):
    """MobileNetV3 with the parameter names of PaddleOCR and PaddleClas.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. Every block has its expansion, even where it does not
    widen, and the head is 1280 wide at every scale. Dropout multiplies by 1-p in evaluation instead of rescaling in
    training. `relu` replaces every ReLU. Initial weights depend on `paddle.seed` alone: convolutions He normal over
    fan-in, the classifier normal with standard deviation 0.01, biases 0, normalisation scales 1. Howard et al.,
    Searching for MobileNetV3, ICCV 2019.
    """

    def __init__(
        self, size: Size, scale: float, num_classes: int, dropout: float, relu: Activation | None = None
    ) -> None:
        super().__init__(size, scale, relu)
        self.pool, self.last_conv, self.dropout, self.out = head_layers(self.width, num_classes, dropout)

    def forward(self, images: Tensor) -> Tensor:
        return classify(self.features(images), self.pool, self.last_conv, self.dropout, self.out)
