"""What lets functions that Paddle does not know take part in its gradients."""

from __future__ import annotations

import sys
from typing import Any

import paddle
from paddle import Tensor, _C_ops
from paddle.autograd import PyLayer

_CPU = paddle.CPUPlace()


def empty(shape: Any, dtype: Any = paddle.float32) -> Tensor:
    """A tensor whose values are not set."""
    # `paddle.empty` looks at its arguments for four times as long as the allocation takes.
    return _C_ops.empty(shape, dtype, _CPU)


def dense(tensor: Tensor) -> Tensor:
    """The tensor without gaps: a gradient may arrive as a view with strides."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def address(tensor: Tensor | None) -> int | None:
    """Where its values are; None without a tensor."""
    return None if tensor is None else tensor.data_ptr()


class Function(PyLayer):
    """A `PyLayer` of tensors, any of which may want a gradient, and of constants.

    Subclasses have `compute(ctx, *arguments)`, the forward pass, and `gradients(ctx, dy)`, one for each tensor;
    `ctx.wants` says which of them want one.

    Two things about a PyLayer of Paddle 3.3.1: for tensors that are arguments by themselves a backward pass has to
    return None where `paddle.grad` was not asked for them, which it cannot know; so those that want a gradient are one
    list, of which Paddle takes what it needs. And `retain_graph` does not keep it: a second backward pass would end the
    process, so the first one is refused.
    """

    #: How many of the arguments, from the first one on, are tensors that may want a gradient; None where there is none.
    tensors = 1

    @classmethod
    def apply(cls, *arguments: Any) -> Tensor:
        """What `compute` returns, with a gradient where a tensor wants one."""
        wants = [tensor is not None and not tensor.stop_gradient for tensor in arguments[: cls.tensors]]
        wanting = [tensor for tensor, wanted in zip(arguments[: cls.tensors], wants, strict=True) if wanted]
        return super().apply(wanting, _Call(cls, arguments, wants))

    @staticmethod
    def forward(ctx: Any, _wanting: list[Tensor], call: _Call) -> Tensor:
        ctx.function, ctx.wants = call.function, call.wants
        return call.function.compute(ctx, *call.arguments)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> list[Tensor | None]:
        _refuse_more_passes()
        gradients = ctx.function.gradients(ctx, dense(dy))
        return [gradient for gradient, wanted in zip(gradients, ctx.wants, strict=True) if wanted]

    @staticmethod
    def compute(ctx: Any, *arguments: Any) -> Tensor:
        """The result for the arguments; what `gradients` needs is kept in `ctx`."""
        raise NotImplementedError

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """One for each of the tensors; only those that `ctx.wants` has are read."""
        raise NotImplementedError


class _Call:
    """What a function is called with, in a form in which Paddle does not look for tensors."""

    def __init__(self, function: type[Function], arguments: tuple[Any, ...], wants: list[bool]) -> None:
        self.function, self.arguments, self.wants = function, arguments, wants


def _refuse_more_passes() -> None:
    """Errors: RuntimeError where the graph is to stay for another backward pass, or gradients are to have their own."""
    remedy = "train.accelerate=off, or the context runner.kernels.layers.stock(), computes with Paddle's layers"
    if paddle.is_grad_enabled():
        raise RuntimeError(f"create_graph=True: accelerated layers have no second derivative; {remedy}")
    # Behind this function, `Function.backward` and what Paddle's `PyLayer` calls it by.
    caller = sys._getframe(3)
    if caller.f_code.co_name == "backward" and caller.f_locals.get("retain_graph"):
        raise RuntimeError(
            "backward(retain_graph=True): accelerated layers allow one backward pass, since Paddle frees them in it; "
            f"paddle.grad(…, retain_graph=True) may be called again, and {remedy}"
        )
