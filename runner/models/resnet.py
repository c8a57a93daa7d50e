"""Thin and shallow ResNets, for images and machines that do not need a whole ResNet-18."""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Normal

from .mobilenet_v3 import ConvNorm, make_divisible

#: Number of layers → blocks in each of the four stages.
BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Layer):
    """Two 3×3 convolutions with a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 3, stride=stride, activation=F.relu)
        self.conv2 = ConvNorm(outputs, outputs, 3)
        self.shortcut = ConvNorm(inputs, outputs, stride=stride) if stride > 1 or inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return F.relu(self.conv2(self.conv1(features)) + shortcut)


class ResNet(nn.Layer):
    """ResNet of basic blocks, its widths multiplied by `scale`.

    Images [N, 3, H, W] float32 give logits [N, num_classes]. Convolutions are drawn He normal over fan-in, the
    classifier normal with deviation 0.01. He et al., Deep Residual Learning for Image Recognition, CVPR 2016; with 10
    layers as in Simon et al., ImageNet pre-trained models with batch normalization, 2016.
    """

    def __init__(self, depth: int, scale: float, num_classes: int) -> None:
        super().__init__()
        channels = make_divisible(WIDTHS[0] * scale)
        self.conv1 = ConvNorm(3, channels, 7, stride=2, activation=F.relu)
        self.maxpool = nn.MaxPool2D(3, 2, 1)
        blocks = []
        for stage, (count, width) in enumerate(zip(BLOCKS[depth], WIDTHS, strict=True)):
            outputs = make_divisible(width * scale)
            for number in range(count):
                blocks.append(BasicBlock(channels, outputs, 2 if stage and not number else 1))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2D(1)
        self.out = nn.Linear(channels, num_classes, weight_attr=ParamAttr(initializer=Normal(0.0, 0.01)))

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.pool(self.blocks(self.maxpool(self.conv1(images)))).flatten(1))
