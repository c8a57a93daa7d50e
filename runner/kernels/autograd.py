"""Custom functions as part of Paddle's automatic differentiation."""

from __future__ import annotations

import sys
from typing import Any

import paddle
from paddle import Tensor, _C_ops
from paddle.autograd import PyLayer

_CPU = paddle.CPUPlace()


def empty(shape: Any, dtype: Any = paddle.float32) -> Tensor:
    """A tensor with uninitialised values."""
    # `paddle.empty` spends four times as long checking its arguments as allocating.
    return _C_ops.empty(shape, dtype, _CPU)


def dense(tensor: Tensor) -> Tensor:
    """The tensor as contiguous memory: a gradient may arrive as a strided view."""
    return tensor if tensor.is_contiguous() else tensor.contiguous()


def address(tensor: Tensor | None) -> int | None:
    """The address of its values; None without a tensor."""
    return None if tensor is None else tensor.data_ptr()


class Function(PyLayer):
    """A `PyLayer` of tensors, any of which may require a gradient, and of constants.

    Subclasses have `compute(ctx, *arguments)`, the forward pass, and `gradients(ctx, dy)`, one for each tensor;
    `ctx.wants` says which of them require one. Two workarounds for PyLayer in Paddle 3.3.1: a backward pass has to
    return None for tensor arguments that `paddle.grad` was not asked about, which it cannot know; so all tensors that
    require a gradient are passed as one list, from which Paddle takes what it needs. And `retain_graph` does not keep a
    PyLayer: a second backward pass would crash the process, so already the first one is refused.
    """

    #: How many of the leading arguments are tensors that may require a gradient; None if none is.
    tensors = 1

    @classmethod
    def apply(cls, *arguments: Any) -> Tensor:
        """The result of `compute`, with a gradient if a tensor requires one."""
        wants = [tensor is not None and not tensor.stop_gradient for tensor in arguments[: cls.tensors]]
        wanting = [tensor for tensor, wanted in zip(arguments[: cls.tensors], wants, strict=True) if wanted]
        return super().apply(wanting, _Call(cls, arguments, wants))

    @staticmethod
    def forward(ctx: Any, _wanting: list[Tensor], call: _Call) -> Tensor:
        ctx.function, ctx.wants = call.function, call.wants
        result = call.function.compute(ctx, *call.arguments)
        ctx.versions = _versions(ctx)
        return result

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> list[Tensor | None]:
        _refuse_more_passes()
        _refuse_changes(ctx)
        gradients = ctx.function.gradients(ctx, dense(dy))
        return [gradient for gradient, wanted in zip(gradients, ctx.wants, strict=True) if wanted]

    @staticmethod
    def compute(ctx: Any, *arguments: Any) -> Tensor:
        """The forward pass; what `gradients` needs is stored in `ctx`."""
        raise NotImplementedError

    @staticmethod
    def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """A gradient for each of the tensors; only those that `ctx.wants` names are used."""
        raise NotImplementedError


class _Call:
    """The arguments of a call in a wrapper that Paddle does not search for tensors."""

    def __init__(self, function: type[Function], arguments: tuple[Any, ...], wants: list[bool]) -> None:
        self.function, self.arguments, self.wants = function, arguments, wants


def _versions(ctx: Any) -> list[int]:
    """How often each saved tensor was changed in place."""
    return [0 if tensor is None else tensor.inplace_version for tensor in ctx.saved_tensor() or ()]


def _refuse_changes(ctx: Any) -> None:
    """Errors: RuntimeError if a tensor that the gradient needs was changed in place, as Paddle's layers have it."""
    if _versions(ctx) != ctx.versions:
        raise RuntimeError(
            f"A tensor that the backward pass of {ctx.function.__name__} needs was changed by an in-place operation, "
            "such as x.add_(1). Use the one that makes a new tensor, such as x + 1"
        )


def _refuse_more_passes() -> None:
    """Errors: RuntimeError for `retain_graph` in a backward pass, and for second derivatives."""
    remedy = "train.accelerate=off, or the context runner.kernels.layers.stock(), computes with Paddle's layers"
    if paddle.is_grad_enabled():
        raise RuntimeError(f"create_graph=True: accelerated layers have no second derivative; {remedy}")
    # The frames above this one are `Function.backward` and Paddle's caller of it.
    caller = sys._getframe(3)
    if caller.f_code.co_name == "backward" and caller.f_locals.get("retain_graph"):
        raise RuntimeError(
            "backward(retain_graph=True): accelerated layers allow one backward pass, since Paddle frees them in it; "
            f"paddle.grad(…, retain_graph=True) may be called again, and {remedy}"
        )
