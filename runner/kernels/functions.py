"""The kernels with their gradients, as functions of batch-last tensors [C, H, W, N], float32."""

from __future__ import annotations

import math
from typing import Any

import paddle
from paddle import Tensor

from . import native
from .autograd import Function, address, dense, empty
from .native import Geometry, plan


class Convolution(Function):
    """Convolution of maps [C, H, W, N] with weights [O, C/groups, k, k] and a bias [O] or None: [O, H', W', N]."""

    tensors = 3

    @staticmethod
    def compute(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        x, weight = dense(x), dense(weight)
        y, shape = empty(geometry.output_shape), plan(geometry)
        kernels = native.kernels()
        run = kernels.depthwise_forward if geometry.is_depthwise else kernels.convolution_forward
        run(shape, x.data_ptr(), weight.data_ptr(), address(bias), y.data_ptr())
        # The gradient with respect to the input does not need the input.
        _, *of_weight = ctx.wants
        ctx.save_for_backward(weight, *([x] if any(of_weight) else []))
        ctx.geometry, ctx.plan = geometry, shape
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensor()
        g, shape, kernels = ctx.geometry, ctx.plan, native.kernels()
        dx = dweight = dbias = None
        wants_x, wants_weight, wants_bias = ctx.wants
        if g.is_depthwise:
            of_input, of_weight = kernels.depthwise_input_gradient, kernels.depthwise_weight_gradient
        else:
            of_input, of_weight = kernels.convolution_input_gradient, kernels.convolution_weight_gradient
        if wants_x:
            dx = empty([g.channels, g.height, g.width, g.batch])
            of_input(shape, dy.data_ptr(), weight.data_ptr(), dx.data_ptr())
        if wants_weight or wants_bias:
            [x] = inputs
            dweight = empty(weight.shape)
            dbias = empty(weight.shape[:1]) if wants_bias else None
            of_weight(shape, dy.data_ptr(), x.data_ptr(), dweight.data_ptr(), address(dbias))
        return dx, dweight, dbias


class BatchNorm(Function):
    """Batch normalisation and activation of maps [C, …]; running averages [C] are updated in place.

    A shortcut of the same shape is added before the activation, which then is none, ReLU or ReLU6. As in Paddle, a
    channel with a single value is not normalised in training, and does not update the running averages; and γ and β get
    gradients only if both require one.
    """

    tensors = 4

    @staticmethod
    def compute(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, shortcut: Tensor | None, running: tuple[Tensor, Tensor],
        epsilon: float, momentum: float, activation: int, training: bool,
    ) -> Tensor:  # fmt: skip
        x, shortcut = dense(x), None if shortcut is None else dense(shortcut)
        channels, *rest = shape = x.shape
        y, rate, kernels = empty(shape), empty([channels]), native.kernels()
        average, variance = running
        arguments = (channels, math.prod(rest), x.data_ptr(), gamma.data_ptr(), beta.data_ptr(), epsilon)
        if training:
            mean = empty([channels])
            kernels.normalize_batch(
                *arguments, momentum, activation, address(shortcut), average.data_ptr(), variance.data_ptr(),
                mean.data_ptr(), rate.data_ptr(), y.data_ptr(),
            )  # fmt: skip
        else:
            mean = average.clone()
            kernels.normalize_running(
                *arguments, activation, address(shortcut), mean.data_ptr(), variance.data_ptr(), rate.data_ptr(),
                y.data_ptr(),
            )  # fmt: skip
        # The output itself would keep its own gradient function, and with it this context, alive.
        ctx.save_for_backward(x, gamma, beta, mean, rate, *([] if shortcut is None else [y.detach()]))
        ctx.activation, ctx.training = activation, training
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, beta, mean, rate, *outputs = ctx.saved_tensor()
        channels, *rest = shape = x.shape
        dx, dgamma, dbeta = empty(shape), empty([channels]), empty([channels])
        y, dshortcut = (outputs[0], empty(shape)) if outputs else (None, None)
        native.kernels().normalize_gradient(
            channels, math.prod(rest), x.data_ptr(), dy.data_ptr(), mean.data_ptr(), rate.data_ptr(), gamma.data_ptr(),
            beta.data_ptr(), ctx.activation, address(y), ctx.training, dx.data_ptr(), dgamma.data_ptr(),
            dbeta.data_ptr(), address(dshortcut),
        )  # fmt: skip
        _, *both, _ = ctx.wants
        return (dx, dgamma, dbeta, dshortcut) if all(both) else (dx, None, None, dshortcut)


class ToBatchLast(Function):
    """[N, C, H, W] to [C, H, W, N]."""

    @staticmethod
    def compute(ctx: Any, x: Tensor) -> Tensor:
        return _batch_last(x)

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        return (_batch_first(dy),)


class ToBatchFirst(Function):
    """[C, H, W, N] to [N, C, H, W]."""

    @staticmethod
    def compute(ctx: Any, x: Tensor) -> Tensor:
        return _batch_first(x)

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        return (_batch_last(dy),)


def _batch_last(x: Tensor) -> Tensor:
    batch, *rest = x.shape
    return _transposed(x, batch, math.prod(rest), [*rest, batch])


def _batch_first(x: Tensor) -> Tensor:
    *rest, batch = x.shape
    return _transposed(x, math.prod(rest), batch, [batch, *rest])


def _transposed(x: Tensor, rows: int, columns: int, shape: list[int]) -> Tensor:
    x, y = dense(x), empty(shape)
    native.kernels().transpose(rows, columns, x.data_ptr(), y.data_ptr())
    return y


class MeanPool(Function):
    """Global average pooling: [C, H, W, N] to [C, 1, 1, N]."""

    @staticmethod
    def compute(ctx: Any, x: Tensor) -> Tensor:
        x = dense(x)
        channels, height, width, batch = ctx.shape = x.shape
        y = empty([channels, 1, 1, batch])
        native.kernels().mean_pool_forward(channels, height * width, batch, x.data_ptr(), y.data_ptr())
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        dx = empty(ctx.shape)
        channels, height, width, batch = ctx.shape
        native.kernels().mean_pool_gradient(channels, height * width, batch, dy.data_ptr(), dx.data_ptr())
        return (dx,)


class Gate(Function):
    """Maps [C, H, W, N] times gates [C, 1, 1, N]."""

    tensors = 2

    @staticmethod
    def compute(ctx: Any, x: Tensor, gate: Tensor) -> Tensor:
        x, gate = dense(x), dense(gate)
        channels, height, width, batch = x.shape
        y = empty([channels, height, width, batch])
        native.kernels().gate_forward(
            channels, height * width, batch, x.data_ptr(), gate.data_ptr(), y.data_ptr()
        )  # fmt: skip
        ctx.save_for_backward(x, gate)
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gate = ctx.saved_tensor()
        dx, dgate = empty(x.shape), empty(gate.shape)
        channels, height, width, batch = x.shape
        native.kernels().gate_gradient(
            channels, height * width, batch, x.data_ptr(), gate.data_ptr(), dy.data_ptr(), dx.data_ptr(),
            dgate.data_ptr(),
        )  # fmt: skip
        return dx, dgate


class MaxPool(Function):
    """Max pooling: [C, H, W, N] to [C, H', W', N]."""

    @staticmethod
    def compute(ctx: Any, x: Tensor, geometry: Geometry) -> Tensor:
        x = dense(x)
        y, where = empty(geometry.output_shape), empty(geometry.output_shape, paddle.uint8)
        ctx.geometry, ctx.plan = geometry, plan(geometry)
        native.kernels().max_pool_forward(ctx.plan, x.data_ptr(), y.data_ptr(), where.data_ptr())
        ctx.save_for_backward(where)
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        (where,) = ctx.saved_tensor()
        g = ctx.geometry
        dx = empty([g.channels, g.height, g.width, g.batch])
        native.kernels().max_pool_gradient(ctx.plan, dy.data_ptr(), where.data_ptr(), dx.data_ptr())
        return (dx,)


class Clip(Function):
    """Clip values of any shape to ±|α|; α [1] gets the signed sum of the gradients of clipped values."""

    tensors = 2

    @staticmethod
    def compute(ctx: Any, x: Tensor, alpha: Tensor) -> Tensor:
        x, y, ctx.alpha = dense(x), empty(x.shape), float(alpha)
        native.kernels().clip_forward(math.prod(x.shape), x.data_ptr(), abs(ctx.alpha), y.data_ptr())
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensor()
        dx = empty(x.shape)
        total = native.kernels().clip_gradient(
            math.prod(x.shape), x.data_ptr(), abs(ctx.alpha), dy.data_ptr(), dx.data_ptr()
        )
        sign = (ctx.alpha > 0) - (ctx.alpha < 0)
        return dx, paddle.full([1], sign * total, "float32")


class FakeQuantize(Function):
    """Fake quantization of values of any shape; the range's tensors [1] follow the values in training.

    The gradient is straight-through (Bengio et al., 2013).
    """

    @staticmethod
    def compute(
        ctx: Any, x: Tensor, scale: Tensor, accum: Tensor, state: Tensor, rate: float, levels: int, training: bool
    ) -> Tensor:
        x, y = dense(x), empty(x.shape)
        native.kernels().fake_quantize(
            math.prod(x.shape), x.data_ptr(), training, rate, levels, scale.data_ptr(), accum.data_ptr(),
            state.data_ptr(), y.data_ptr(),
        )  # fmt: skip
        return y

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor]:
        return (dy,)


def hits(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """`sums.correct` in one pass, without a gradient.

    logits: float32 [N, K]; labels: int64 [N]; float32 [2]. Errors: ValueError for a label outside of the K classes.
    """
    counts, (rows, classes) = empty([2]), logits.shape
    if labels.dtype != paddle.int64 or labels.shape != [rows]:
        raise ValueError(f"labels are int64 [{rows}], not {labels.dtype} {labels.shape}")
    logits, labels = dense(logits), dense(labels)
    wrong = native.kernels().hits(
        rows, classes, k, logits.data_ptr(), labels.data_ptr(), counts.data_ptr()
    )  # fmt: skip
    if wrong >= 0:
        raise ValueError(f"label {int(labels[wrong])} is not one of the {classes} classes, 0 to {classes - 1}")
    return counts
