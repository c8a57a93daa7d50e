"""The kernels of transformers with their gradients, as functions of float32 tensors in Paddle's layout."""

from __future__ import annotations

from typing import Any

from paddle import Tensor

from . import native
from .autograd import Function, address, dense, empty

#: Rows whose gradients are summed in float32, as in src/layer_norm.cc.
ROWS_OF_PART = 32


class LayerNorm(Function):
    """Layer normalisation over the last dimensions of x [..., S]; γ and β [S] or None.

    `size` is S, the product of the dimensions that are normalised together. The gradients of γ and β do not depend on
    the number of threads.
    """

    tensors = 3

    @staticmethod
    def compute(ctx: Any, x: Tensor, gamma: Tensor | None, beta: Tensor | None, size: int, epsilon: float) -> Tensor:
        x = dense(x)
        count = x.size // size
        y, rows = empty(x.shape), empty([count, 3])
        native.kernels().layer_norm_forward(
            count, size, x.data_ptr(), address(gamma), address(beta), epsilon, rows.data_ptr(), y.data_ptr()
        )
        ctx.count, ctx.size = count, size
        ctx.save_for_backward(x, rows, *([] if gamma is None else [gamma]))
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, *gammas = ctx.saved_tensor()
        gamma = gammas[0] if gammas else None
        count, size = ctx.count, ctx.size
        dx = empty(x.shape)
        parts = dgamma = dbeta = None
        _, *of_parameters = ctx.wants
        if any(of_parameters):
            parts, dgamma, dbeta = empty([-(-count // ROWS_OF_PART), 2, size]), empty([size]), empty([size])
        native.kernels().layer_norm_gradient(
            count, size, x.data_ptr(), dy.data_ptr(), rows.data_ptr(), address(gamma), address(parts), dx.data_ptr(),
            address(dgamma), address(dbeta),
        )  # fmt: skip
        return dx, dgamma, dbeta


class Gelu(Function):
    """x·Φ(x) of values of any shape."""

    @staticmethod
    def compute(ctx: Any, x: Tensor) -> Tensor:
        x, y = dense(x), empty(x.shape)
        native.kernels().gelu_forward(x.size, x.data_ptr(), y.data_ptr())
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        (x,) = ctx.saved_tensor()
        dx = empty(x.shape)
        native.kernels().gelu_gradient(x.size, x.data_ptr(), dy.data_ptr(), dx.data_ptr())
        return (dx,)


class Linear(Function):
    """Rows x [..., I] times weights [I, O], and a bias [O] or None: [..., O]."""

    tensors = 3

    @staticmethod
    def compute(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = dense(x), dense(weight)
        inputs, outputs = weight.shape
        ctx.sizes = (x.size // inputs, inputs, outputs)
        y = empty([*x.shape[:-1], outputs])
        native.kernels().linear_forward(*ctx.sizes, x.data_ptr(), weight.data_ptr(), address(bias), y.data_ptr())
        # The gradient with respect to the input does not need the input.
        _, *of_weight = ctx.wants
        ctx.shape = x.shape
        ctx.save_for_backward(weight, *([x] if any(of_weight) else []))
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensor()
        shapes = ctx.shape, weight.shape, weight.shape[1:]
        dx, dweight, dbias = (
            empty(shape) if is_wanted else None for shape, is_wanted in zip(shapes, ctx.wants, strict=True)
        )
        native.kernels().linear_gradient(
            *ctx.sizes, address(inputs[0] if inputs else None), weight.data_ptr(), dy.data_ptr(), address(dx),
            address(dweight), address(dbias),
        )  # fmt: skip
        return dx, dweight, dbias
