"""The kernels with their gradients, as functions of tensors in the batch-last layout [C, H, W, N], float32."""

from __future__ import annotations

import math
from typing import Any

import paddle
from paddle import Tensor, _C_ops
from paddle.autograd import PyLayer

from . import native
from .native import Geometry, plan

_CPU = paddle.CPUPlace()


def _empty(shape: Any, dtype: Any = paddle.float32) -> Tensor:
    # `paddle.empty` looks at its arguments for four times as long as the allocation takes.
    return _C_ops.empty(shape, dtype, _CPU)


def _dense(tensor: Tensor) -> Tensor:
    """A gradient may arrive as a view with strides."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def _wants(*tensors: Tensor | None) -> tuple[bool, ...]:
    """Which of the tensors that are given want a gradient; asked before they are made dense, which forgets it."""
    return tuple(not tensor.stop_gradient for tensor in tensors if tensor is not None)


def _wanted(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """One gradient for each tensor that was given; Paddle insists on None where none is wanted."""
    pairs = zip(ctx.wants, gradients[: len(ctx.wants)], strict=True)
    return tuple(gradient if wants else None for wants, gradient in pairs)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class Convolution(PyLayer):
    """Convolution of maps [C, H, W, N] with weights [O, C/groups, k, k] and a bias [O] or None: [O, H', W', N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.wants = _wants(x, weight, bias)
        x, weight = _dense(x), _dense(weight)
        y = _empty(geometry.output_shape)
        kernels = native.kernels()
        run = kernels.depthwise_forward if geometry.is_depthwise else kernels.convolution_forward
        run(plan(geometry), x.data_ptr(), weight.data_ptr(), _address(bias), y.data_ptr())
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensor()
        dy, shape, kernels = _dense(dy), plan(ctx.geometry), native.kernels()
        dx = dweight = dbias = None
        wants_x, wants_weight, *wants_bias = ctx.wants
        if ctx.geometry.is_depthwise:
            of_input, of_weight = kernels.depthwise_input_gradient, kernels.depthwise_weight_gradient
        else:
            of_input, of_weight = kernels.convolution_input_gradient, kernels.convolution_weight_gradient
        if wants_x:
            dx = _empty(x.shape)
            of_input(shape, dy.data_ptr(), weight.data_ptr(), dx.data_ptr())
        if wants_weight or any(wants_bias):
            dweight = _empty(weight.shape)
            dbias = _empty(weight.shape[:1]) if any(wants_bias) else None
            of_weight(shape, dy.data_ptr(), x.data_ptr(), dweight.data_ptr(), _address(dbias))
        return _wanted(ctx, dx, dweight, dbias)


class BatchNorm(PyLayer):
    """Batch normalisation and activation of maps [C, …]; running averages [C] are updated in place."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, running: tuple[Tensor, Tensor], epsilon: float,
        momentum: float, activation: int, training: bool,
    ) -> Tensor:  # fmt: skip
        ctx.wants = _wants(x, gamma, beta)
        x = _dense(x)
        channels, *rest = shape = x.shape
        y, rate, kernels = _empty(shape), _empty([channels]), native.kernels()
        average, variance = running
        arguments = (channels, math.prod(rest), x.data_ptr(), gamma.data_ptr(), beta.data_ptr(), epsilon)
        if training:
            mean = _empty([channels])
            kernels.normalize_batch(
                *arguments, momentum, activation, average.data_ptr(), variance.data_ptr(), mean.data_ptr(),
                rate.data_ptr(), y.data_ptr(),
            )  # fmt: skip
        else:
            mean = average.clone()
            kernels.normalize_running(
                *arguments, activation, mean.data_ptr(), variance.data_ptr(), rate.data_ptr(), y.data_ptr()
            )
        ctx.save_for_backward(x, gamma, beta, mean, rate)
        ctx.activation, ctx.training = activation, training
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, mean, rate = ctx.saved_tensor()
        dy = _dense(dy)
        channels, *rest = shape = x.shape
        dx, dgamma, dbeta = _empty(shape), _empty([channels]), _empty([channels])
        native.kernels().normalize_gradient(
            channels, math.prod(rest), x.data_ptr(), dy.data_ptr(), mean.data_ptr(), rate.data_ptr(), gamma.data_ptr(),
            beta.data_ptr(), ctx.activation, ctx.training, dx.data_ptr(), dgamma.data_ptr(), dbeta.data_ptr(),
        )  # fmt: skip
        return _wanted(ctx, dx, dgamma, dbeta)


class ToBatchLast(PyLayer):
    """[N, C, H, W] to [C, H, W, N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, *rest = x.shape
        return _transposed(x, batch, math.prod(rest), [*rest, batch])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        *rest, batch = dy.shape
        return _transposed(dy, math.prod(rest), batch, [batch, *rest])


class ToBatchFirst(PyLayer):
    """[C, H, W, N] to [N, C, H, W]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return ToBatchLast.backward(ctx, x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return ToBatchLast.forward(ctx, dy)


def _transposed(x: Tensor, rows: int, columns: int, shape: list[int]) -> Tensor:
    x, y = _dense(x), _empty(shape)
    native.kernels().transpose(rows, columns, x.data_ptr(), y.data_ptr())
    return y


class MeanPool(PyLayer):
    """The mean of every map: [C, H, W, N] to [C, 1, 1, N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = _dense(x)
        channels, height, width, batch = ctx.shape = x.shape
        y = _empty([channels, 1, 1, batch])
        native.kernels().mean_pool_forward(channels, height * width, batch, x.data_ptr(), y.data_ptr())
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        dy, dx = _dense(dy), _empty(ctx.shape)
        channels, height, width, batch = ctx.shape
        native.kernels().mean_pool_gradient(channels, height * width, batch, dy.data_ptr(), dx.data_ptr())
        return dx


class Gate(PyLayer):
    """Maps [C, H, W, N] times gates [C, 1, 1, N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        ctx.wants = _wants(x, gate)
        x, gate = _dense(x), _dense(gate)
        channels, height, width, batch = x.shape
        y = _empty([channels, height, width, batch])
        native.kernels().gate_forward(
            channels, height * width, batch, x.data_ptr(), gate.data_ptr(), y.data_ptr()
        )  # fmt: skip
        ctx.save_for_backward(x, gate)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gate = ctx.saved_tensor()
        dy, dx, dgate = _dense(dy), _empty(x.shape), _empty(gate.shape)
        channels, height, width, batch = x.shape
        native.kernels().gate_gradient(
            channels, height * width, batch, x.data_ptr(), gate.data_ptr(), dy.data_ptr(), dx.data_ptr(),
            dgate.data_ptr(),
        )  # fmt: skip
        return _wanted(ctx, dx, dgate)


class MaxPool(PyLayer):
    """The maximum of every window: [C, H, W, N] to [C, H', W', N]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: Geometry) -> Tensor:
        x = _dense(x)
        y, where = _empty(geometry.output_shape), _empty(geometry.output_shape, paddle.uint8)
        native.kernels().max_pool_forward(plan(geometry), x.data_ptr(), y.data_ptr(), where.data_ptr())
        ctx.save_for_backward(where)
        ctx.geometry = geometry
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (where,) = ctx.saved_tensor()
        g = ctx.geometry
        dy, dx = _dense(dy), _empty([g.channels, g.height, g.width, g.batch])
        native.kernels().max_pool_gradient(plan(g), dy.data_ptr(), where.data_ptr(), dx.data_ptr())
        return dx


class Clip(PyLayer):
    """Values clipped to ±|α| of any shape; α [1] gets the signed sum of the gradients that were clipped off."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        ctx.wants = _wants(x, alpha)
        x, y, ctx.alpha = _dense(x), _empty(x.shape), float(alpha)
        native.kernels().clip_forward(math.prod(x.shape), x.data_ptr(), abs(ctx.alpha), y.data_ptr())
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensor()
        dy, dx = _dense(dy), _empty(x.shape)
        total = native.kernels().clip_gradient(
            math.prod(x.shape), x.data_ptr(), abs(ctx.alpha), dy.data_ptr(), dx.data_ptr()
        )
        sign = (ctx.alpha > 0) - (ctx.alpha < 0)
        return _wanted(ctx, dx, paddle.full([1], sign * total))


class FakeQuantize(PyLayer):
    """Values of any shape on the integer grid of a range; its tensors [1] follow the values while training.

    The gradient goes straight through (Bengio et al., 2013).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, accum: Tensor, state: Tensor, rate: float, levels: int, training: bool
    ) -> Tensor:
        x, y = _dense(x), _empty(x.shape)
        native.kernels().fake_quantize(
            math.prod(x.shape), x.data_ptr(), training, rate, levels, scale.data_ptr(), accum.data_ptr(),
            state.data_ptr(), y.data_ptr(),
        )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
        return dy, None, None, None


def hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """`metrics.correct` in one pass, without a gradient. logits: float32 [N, K]; labels: int64 [N]; float32 [2]."""
    counts = _empty([2])
    native.kernels().hits(
        *logits.shape, k, _dense(logits).data_ptr(), _dense(labels).data_ptr(), counts.data_ptr()
    )  # fmt: skip
    return counts
