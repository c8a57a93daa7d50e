"""Fake quantization in place of Paddle's: with stored or learnt ranges, or bits that are part of the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn.initializer import Constant

#: The smallest range.
SMALLEST = 1e-6


class Rounding(nn.Layer):
    """x̂ = s · clip(round(x / s), -Q, Q) with s = range / Q and Q = 2^(bits - 1) - 1.

    A range that is `learnt` gets the gradient of Learned Step Size Quantization (Esser et al., ICLR 2020). With other
    ranges the gradient passes for values within the range and is 0 beyond. The parameter is the range, not the step s:
    AdamW changes all parameters by about the same amount, which would be far too much for a step. The gradient is
    scaled so that under SGD steps change as in the paper.
    """

    range: Tensor
    """float32 [1] or [channels]: the magnitude that Q stands for."""
    levels: Tensor
    """int32 [1]: Q. It is part of the state, since bits may follow from measurements."""
    sharing: Tensor
    """int64 [1]: the number of values of an image, or of weights, that share a range."""

    def __init__(self, bits: int, channels: int = 1, axis: int | None = None, learnt: bool = False) -> None:
        super().__init__()
        self.axis, self.is_learnt = axis, learnt
        self.range = self.create_parameter([channels], dtype="float32", default_initializer=Constant(1.0))
        self.range.stop_gradient = not learnt
        self.register_buffer("levels", paddle.to_tensor([levels_of(bits)], "int32"))
        if learnt:
            self.register_buffer("sharing", paddle.to_tensor([1], "int64"))

    def forward(self, x: Tensor) -> Tensor:
        inputs = _Inputs(x.astype("float32"), self)
        return _Round.apply(inputs.wanting, inputs).astype(x.dtype)

    def set_range(self, magnitudes: np.ndarray) -> None:
        """Give it ranges: float32 [1] or [channels]."""
        self.range.set_value(np.maximum(np.asarray(magnitudes, np.float32).reshape(self.range.shape), SMALLEST))

    @property
    def magnitudes(self) -> np.ndarray:
        """The ranges: float32 [1] or [channels]. Training may carry a parameter across zero."""
        return np.maximum(np.abs(self.range.numpy()), np.float32(SMALLEST))


class AbsMaxRounding(nn.Layer):
    """Rounds a weight with the largest magnitude as its range, per output channel or overall; its state has the
    bits."""

    levels: Tensor
    """int32 [1]: Q."""

    def __init__(self, bits: int, axis: int | None = None) -> None:
        super().__init__()
        self.axis = axis
        self.register_buffer("levels", paddle.to_tensor([levels_of(bits)], "int32"))

    def forward(self, weight: Tensor) -> Tensor:
        with paddle.no_grad():
            others = [place for place in range(weight.ndim) if place != self.axis]
            magnitude = weight.detach().abs().max(axis=others, keepdim=True).clip(min=SMALLEST)
            step = magnitude / self.levels.astype(weight.dtype)
            rounding = (weight / step).round() * step - weight
        # Straight-through gradient (Bengio et al., 2013): nothing is beyond the range.
        return weight + rounding.detach()


@dataclass
class _Inputs:
    """The rounded tensors, in a form in which Paddle does not look for tensors."""

    x: Tensor
    layer: Rounding

    @property
    def wanting(self) -> list[Tensor]:
        """The tensors that need a gradient: a PyLayer of Paddle 3.3.1 only sees those in a list."""
        return [tensor for tensor in (self.x, self.layer.range) if not tensor.stop_gradient]


class _Round(PyLayer):
    """Rounding with the gradients of Esser et al.'s equations 3 and 5."""

    @staticmethod
    def forward(ctx: Any, _wanting: list[Tensor], inputs: _Inputs) -> Tensor:
        x, layer = inputs.x, inputs.layer
        shape = [1] * x.ndim
        if layer.axis is not None:
            shape[layer.axis] = -1
        most = layer.levels.astype("float32")
        step = (layer.range.detach().abs().clip(min=SMALLEST) / most).reshape(shape)
        scaled = x.detach() / step
        ctx.save_for_backward(scaled, most)
        ctx.layer, ctx.wants_x = layer, not x.stop_gradient
        return paddle.minimum(paddle.maximum(scaled.round(), -most), most) * step

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> list[Tensor]:
        (scaled, most), layer = ctx.saved_tensor(), ctx.layer
        inside = (scaled.abs() <= most).astype(dy.dtype)
        gradients = [dy * inside] if ctx.wants_x else []
        if not layer.range.stop_gradient:
            change = inside * (scaled.round() - scaled) + (1 - inside) * scaled.sign() * most
            others = [place for place in range(dy.ndim) if place != layer.axis]
            by_step = (dy * change).sum(others).reshape(layer.range.shape)
            # g = 1 / √(N·Q), times Q for the range in place of the step.
            pace = (most / layer.sharing.astype("float32")).sqrt()
            gradients.append(by_step * pace * layer.range.sign())
        return gradients


def levels_of(bits: int) -> int:
    """The largest integer of so many bits, on a grid that is symmetric around zero."""
    return int(2 ** (bits - 1) - 1)


def bits_of(layer: Rounding | AbsMaxRounding) -> int:
    """Bits of what a layer rounds to."""
    return int(layer.levels).bit_length() + 1
