"""Blocks of networks whose normalisations apply the activation behind them, and add the shortcut before it.

Wherever a layer inside is not just what the block was built with, such as one with hooks or another normalisation, the
block computes as its original does.
"""

from __future__ import annotations

import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.jit import marker
from paddle.vision import ops
from paddle.vision.models import resnet as of_paddle

from ..models import mobilenet_v3, resnet
from . import layers
from .activations import KINDS
from .native import ACTIVATIONS

_RELU = ACTIVATIONS.index("relu")


class BasicBlock(of_paddle.BasicBlock):
    """`BasicBlock` of Paddle's ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        if not (is_relu(self.relu) and is_norm(self.bn2)):
            return super().forward(x)
        y = activated(self.bn1, self.relu, self.conv1(x))
        y = self.conv2(y)
        return joined(self.bn2, y, x if self.downsample is None else self.downsample(x))


class BottleneckBlock(of_paddle.BottleneckBlock):
    """`BottleneckBlock` of Paddle's ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        if not (is_relu(self.relu) and is_norm(self.bn3)):
            return super().forward(x)
        y = activated(self.bn1, self.relu, self.conv1(x))
        y = activated(self.bn2, self.relu, self.conv2(y))
        y = self.conv3(y)
        return joined(self.bn3, y, x if self.downsample is None else self.downsample(x))


class ThinBasicBlock(resnet.BasicBlock):
    """`BasicBlock` of this package's ResNets."""

    def forward(self, features: Tensor) -> Tensor:
        last = self.conv2
        if not (type(last) is mobilenet_v3.ConvNorm and not has_hooks(last) and is_norm(last.bn)):
            return super().forward(features)
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return joined(last.bn, last.conv(self.conv1(features)), shortcut)


class ConvNormActivation(ops.ConvNormActivation):
    """`ConvNormActivation` of Paddle's MobileNets."""

    def forward(self, x: Tensor) -> Tensor:
        if len(self) != 3 or not is_norm(self[1]):
            return super().forward(x)
        convolution, norm, activation = self
        return activated(norm, activation, convolution(x))


def is_relu(layer: nn.Layer) -> bool:
    """Whether a layer is a ReLU whose output nobody else looks at."""
    return KINDS.get(type(layer)) == _RELU and not has_hooks(layer)


def is_norm(layer: nn.Layer) -> bool:
    """Whether a layer is a normalisation alone, by the kernels, whose output nobody else looks at."""
    alone = type(layer) is layers.BatchNorm2D or (
        type(layer) is layers.FusedNorm and layer.activation is mobilenet_v3.identity
    )
    return alone and not has_hooks(layer) and layers.normalizes(layer)


def has_hooks(layer: nn.Layer) -> bool:
    """Whether something is called with what a layer computes."""
    return bool(layer._forward_pre_hooks or layer._forward_post_hooks)


def activated(norm: nn.Layer, activation: nn.Layer, x: Tensor) -> Tensor:
    """What an activation behind a normalisation gives for x, in one pass if possible."""
    kind = KINDS.get(type(activation))
    if kind is None or has_hooks(activation) or not is_norm(norm) or not layers.applies(x):
        return activation(norm(x))
    return layers.normalized(norm, x, kind)


def joined(norm: nn.Layer, x: Tensor, shortcut: Tensor) -> Tensor:
    """The ReLU of normalised maps [C, H, W, N] plus a shortcut."""
    if layers.applies(x, shortcut) and shortcut.shape == x.shape:
        return layers.normalized(norm, x, _RELU, shortcut)
    return F.relu(norm(x) + shortcut)


#: Block → its faster class.
FASTER: dict[type[nn.Layer], type[nn.Layer]] = {
    of_paddle.BasicBlock: BasicBlock, of_paddle.BottleneckBlock: BottleneckBlock, resnet.BasicBlock: ThinBasicBlock,
    ops.ConvNormActivation: ConvNormActivation,
}  # fmt: skip

# As in layers.py.
for _kind in FASTER.values():
    marker.unified(_kind, for_ast=False)
