"""Residual blocks whose normalisations apply the ReLU behind them, the last one with the shortcut added.

Wherever a layer inside is not just what the block was built with, such as one with hooks or another normalisation, the
block computes as its original does.
"""

from __future__ import annotations

from paddle import Tensor, nn
from paddle.jit import marker
from paddle.vision.models import resnet as of_paddle

from ..models import mobilenet_v3, resnet
from . import layers
from .activations import ReLU
from .native import ACTIVATIONS

_RELU = ACTIVATIONS.index("relu")


class BasicBlock(of_paddle.BasicBlock):
    """`BasicBlock` of Paddle's ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        if not _are_plain(self.relu, self.bn1, self.bn2):
            return super().forward(x)
        y = _normalized(self.bn1, self.conv1(x))
        return _joined(self, self.bn2, self.conv2(y), x)


class BottleneckBlock(of_paddle.BottleneckBlock):
    """`BottleneckBlock` of Paddle's ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        if not _are_plain(self.relu, self.bn1, self.bn2, self.bn3):
            return super().forward(x)
        y = _normalized(self.bn1, self.conv1(x))
        y = _normalized(self.bn2, self.conv2(y))
        return _joined(self, self.bn3, self.conv3(y), x)


class ThinBasicBlock(resnet.BasicBlock):
    """`BasicBlock` of this package's ResNets."""

    def forward(self, features: Tensor) -> Tensor:
        last = self.conv2
        if not (
            type(last) is mobilenet_v3.ConvNorm
            and not _has_hooks(last)
            and _is_norm(last.bn, layers.FusedNorm)
            and last.bn.activation is mobilenet_v3.identity
        ):
            return super().forward(features)
        shortcut = features if self.shortcut is None else self.shortcut(features)
        return _normalized(last.bn, last.conv(self.conv1(features)), shortcut)


def _are_plain(relu: nn.Layer, *norms: nn.Layer) -> bool:
    is_relu = type(relu) in (nn.ReLU, ReLU) and not _has_hooks(relu)
    return is_relu and all(_is_norm(norm, layers.BatchNorm2D) for norm in norms)


def _is_norm(norm: nn.Layer, kind: type[nn.Layer]) -> bool:
    """Whether the kernels compute a normalisation, and nobody looks at its output."""
    return type(norm) is kind and not _has_hooks(norm) and layers.normalizes(norm)


def _has_hooks(layer: nn.Layer) -> bool:
    return bool(layer._forward_pre_hooks or layer._forward_post_hooks)


def _joined(block: nn.Layer, norm: nn.Layer, y: Tensor, x: Tensor) -> Tensor:
    return _normalized(norm, y, x if block.downsample is None else block.downsample(x))


def _normalized(norm: nn.Layer, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
    """The ReLU of normalised maps [C, H, W, N], plus a shortcut."""
    if layers.applies(x, shortcut) and (shortcut is None or shortcut.shape == x.shape):
        return layers.normalized(norm, x, _RELU, shortcut)
    y = norm(x)
    return nn.functional.relu(y if shortcut is None else y + shortcut)


#: Block → its faster class.
FASTER: dict[type[nn.Layer], type[nn.Layer]] = {
    of_paddle.BasicBlock: BasicBlock, of_paddle.BottleneckBlock: BottleneckBlock, resnet.BasicBlock: ThinBasicBlock,
}  # fmt: skip

# As in layers.py.
for _kind in FASTER.values():
    marker.unified(_kind, for_ast=False)
