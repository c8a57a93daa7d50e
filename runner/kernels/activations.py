"""Activation layers that are computed by the kernels, of tensors in any layout."""

from __future__ import annotations

from typing import Any

from paddle import Tensor, nn
from paddle.jit import marker

from . import native
from .autograd import Function, dense, empty
from .layers import WORTH_A_CALL, applies
from .native import ACTIVATIONS

_RELU, _RELU6, _HARDSWISH, _SWISH = (ACTIVATIONS.index(name) for name in ("relu", "relu6", "hardswish", "swish"))
#: Activations whose derivative can be told from their output, which the next layer keeps anyway.
_FROM_OUTPUT = (_RELU, _RELU6)


class Activation(Function):
    """An activation of values of any shape; `kind` is its place in `ACTIVATIONS`."""

    @staticmethod
    def compute(ctx: Any, x: Tensor, kind: int) -> Tensor:
        x, y, ctx.kind = dense(x), empty(x.shape), kind
        native.kernels().activation_forward(x.size, kind, x.data_ptr(), y.data_ptr())
        # The output itself would keep its own gradient function, and with it this context, alive.
        ctx.save_for_backward(y.detach() if kind in _FROM_OUTPUT else x)
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        (kept,) = ctx.saved_tensor()
        dx = empty(kept.shape)
        native.kernels().activation_gradient(kept.size, ctx.kind, kept.data_ptr(), dy.data_ptr(), dx.data_ptr())
        return (dx,)


def _computes(x: Tensor) -> bool:
    return applies(x) and x.size >= WORTH_A_CALL


class ReLU(nn.ReLU):
    """`nn.ReLU` in all threads."""

    def forward(self, x: Tensor) -> Tensor:
        return Activation.apply(x, _RELU) if _computes(x) else super().forward(x)


class ReLU6(nn.ReLU6):
    """`nn.ReLU6` in all threads."""

    def forward(self, x: Tensor) -> Tensor:
        return Activation.apply(x, _RELU6) if _computes(x) else super().forward(x)


class Hardswish(nn.Hardswish):
    """`nn.Hardswish` in all threads."""

    def forward(self, x: Tensor) -> Tensor:
        return Activation.apply(x, _HARDSWISH) if _computes(x) else super().forward(x)


class Swish(nn.Swish):
    """`nn.Swish` in all threads."""

    def forward(self, x: Tensor) -> Tensor:
        return Activation.apply(x, _SWISH) if _computes(x) else super().forward(x)


class Silu(nn.Silu):
    """`nn.Silu` in all threads, unless it overwrites its input."""

    def forward(self, x: Tensor) -> Tensor:
        overwrites = getattr(self, "_inplace", False)
        return Activation.apply(x, _SWISH) if _computes(x) and not overwrites else super().forward(x)


#: Paddle's layer → its faster class.
FASTER: dict[type[nn.Layer], type[nn.Layer]] = {
    nn.ReLU: ReLU, nn.ReLU6: ReLU6, nn.Hardswish: Hardswish, nn.Swish: Swish, nn.Silu: Silu,
}  # fmt: skip
#: Layer, also a faster one → its activation's place in `ACTIVATIONS`.
KINDS: dict[type[nn.Layer], int] = {
    nn.ReLU: _RELU, nn.ReLU6: _RELU6, nn.Hardswish: _HARDSWISH, nn.Swish: _SWISH, nn.Silu: _SWISH,
}  # fmt: skip
KINDS |= {FASTER[plain]: kind for plain, kind in KINDS.items()}

# As in layers.py.
for _kind in FASTER.values():
    marker.unified(_kind, for_ast=False)
