"""Blocks of PaddleClas' networks in fewer passes, by the name of their module, since it need not be installed.

A block whose code is not that of PaddleClas 2.6.0 would give other logits, which `accelerate` compares.
"""

from __future__ import annotations

import functools
from typing import Any

import paddle
from paddle import Tensor, nn
from paddle.jit import marker

from . import functions, layers
from .blocks import activated, has_hooks, is_norm, is_relu, joined


class ConvNorm(nn.Layer):
    """A convolution, its normalisation and an activation."""

    activation = "act"
    """The name of the activation."""
    flag = ""
    """The name of what says whether there is an activation; empty if there always is."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.is_activated and is_norm(self.bn)):
            return super().forward(x)
        x = self.avg_pool(x) if self.pools else x
        return activated(self.bn, getattr(self, self.activation), self.conv(x))

    @property
    def is_activated(self) -> bool:
        return not self.flag or bool(getattr(self, self.flag))

    @property
    def pools(self) -> bool:
        """Whether it pools before the convolution, as in ResNet-vd."""
        return getattr(self, "is_vd_mode", False)


class Residual(nn.Layer):
    """Convolutions with a shortcut, as `BasicBlock` and `BottleneckBlock` have them."""

    def forward(self, x: Tensor) -> Tensor:
        *before, last = (self._sub_layers[name] for name in ("conv0", "conv1", "conv2") if name in self._sub_layers)
        alone = isinstance(last, ConvNorm) and not (has_hooks(last) or last.is_activated or last.pools)
        if not (alone and is_norm(last.bn) and is_relu(self.relu)):
            return super().forward(x)
        y = x
        for layer in before:
            y = layer(y)
        y = last.conv(y)
        return joined(last.bn, y, x if self.shortcut else self.short(x))


class SqueezeExcitation(nn.Layer):
    """Maps times gates, which are computed from the means of the maps."""

    activation = "relu"
    """The name of the activation within."""

    def forward(self, x: Tensor) -> Tensor:
        pool = self.avg_pool
        if type(pool) is not layers.MeanPool or pool.enters or pool.leaves or not layers.applies(x):
            return super().forward(x)
        gates = getattr(self, self.activation)(self.conv1(pool(x)))
        gates = self.hardsigmoid(self.conv2(gates))
        if layers.applies(gates) and gates.shape == [x.shape[0], 1, 1, x.shape[3]]:
            return functions.Gate.apply(x, gates)
        return paddle.multiply(x, gates)


#: Module of PaddleClas and class → what computes it, and its attributes.
_BLOCKS: dict[tuple[str, str], tuple[type[nn.Layer], dict[str, Any]]] = {
    ("pp_lcnet", "ConvBNLayer"): (ConvNorm, {}),
    ("pp_lcnet", "SEModule"): (SqueezeExcitation, {}),
    ("pp_lcnet_v2", "ConvBNLayer"): (ConvNorm, {"flag": "act"}),
    ("pp_lcnet_v2", "SEModule"): (SqueezeExcitation, {"activation": "act"}),
    ("mobilenet_v1", "ConvBNLayer"): (ConvNorm, {"activation": "relu"}),
    ("mobilenet_v3", "ConvBNLayer"): (ConvNorm, {"flag": "if_act"}),
    ("mobilenet_v3", "SEModule"): (SqueezeExcitation, {}),
    ("resnet", "ConvBNLayer"): (ConvNorm, {"activation": "relu", "flag": "act"}),
    ("resnet", "BasicBlock"): (Residual, {}),
    ("resnet", "BottleneckBlock"): (Residual, {}),
}
_PLACE = "ppcls.arch.backbone.legendary_models."


@functools.cache
def faster(kind: type[nn.Layer]) -> type[nn.Layer] | None:
    """The faster class for a block of PaddleClas' networks, if there is one."""
    if not kind.__module__.startswith(_PLACE):
        return None
    base, attributes = _BLOCKS.get((kind.__module__.removeprefix(_PLACE), kind.__name__), (None, {}))
    if base is None:
        return None
    # Its module is this one, so that it is not taken for the original.
    subclass: Any = type(kind.__name__, (base, kind), {"__module__": __name__, **attributes})
    marker.unified(subclass, for_ast=False)
    return subclass
