"""Makes layers that depend on the whole batch, or on chance, independent of the number of processes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from paddle.nn.quant.quant_layers import FakeQuantMovingAverageAbsMax

from ..compression import slim
from ..errors import ConfigError
from ..kernels.layers import Accelerated, batch_last
from ..models import Networks
from ..models.efficientnet_lite import DropConnect
from .ranks import Ranks

_Norm = nn.layer.norm._BatchNormBase
_HALVES = (paddle.float16, paddle.bfloat16)


def statistics(networks: nn.Layer) -> list[tuple[nn.Layer, Tensor]]:
    """Buffers that training changes besides the weights: running averages, ranges of activations, other float32 ones.

    Each process sees its own part of the batch; all continue with the mean. Each is paired with the layer that changes
    it, in training mode only.
    """
    own: list[tuple[nn.Layer, Tensor]] = []
    for layer in networks.sublayers(include_self=True):
        if isinstance(layer, _Norm):
            own += [(layer, layer._mean), (layer, layer._variance)]
    for layer in slim.fake_quantized(networks).values():
        own += [(slim.range_keeper(layer), tensor) for tensor in slim.range_state(layer)]
    for layer in networks.sublayers(include_self=True):
        own += [(layer, buffer) for buffer in layer.buffers(include_sublayers=False)]
    return list({id(tensor): (layer, tensor) for layer, tensor in own if tensor.dtype == paddle.float32}.values())


def synchronize(networks: Networks, ranks: Ranks) -> None:
    """Let batch normalisation (Peng et al., MegDet, CVPR 2018) and ranges of activations see the whole batch.

    Errors: ConfigError for a normalisation that does not support it.
    """
    for sort, replacement in ((_Norm, _synchronized_norm), (FakeQuantMovingAverageAbsMax, _synchronized_range)):
        for layer in _layers(networks, sort):
            if sort is _Norm and (layer.weight is None or layer.bias is None or layer._data_format == "NHWC"):
                raise ConfigError(
                    f"train.sync_batchnorm=true: {layer.full_name()} has no scale and shift, or its channels last. "
                    "Use train.sync_batchnorm=false, or another normalisation."
                )
            kind: Any = type(layer)
            layer.__class__ = replacement(kind)
            layer._ranks = ranks


def separate(networks: Networks) -> None:
    """Undo `synchronize` and `share_dropout`, for a process that continues alone."""
    for layer in _layers(networks, nn.Layer):
        if getattr(type(layer), "_across_processes", False):
            layer.__class__ = type(layer).__base__


def _layers(networks: Networks, kind: type | tuple[type, ...]) -> list[Any]:
    return [layer for layer in networks.sublayers() if isinstance(layer, kind)]


@functools.cache
def _synchronized_norm(plain: Any) -> Any:
    """A subclass of a batch normalisation, accelerated or not, with the activation after it if it has one."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return plain.forward(self, x)
        # Maps of accelerated layers are [C, H, W, N].
        axis = 0 if isinstance(self, Accelerated) and batch_last() else 1
        y = _normalized(self, x, axis)
        return self.activation(y) if hasattr(self, "activation") else y

    return type(f"Synchronized{plain.__name__}", (plain,), {"forward": forward, "_across_processes": True})


def _normalized(layer: Any, x: Tensor, axis: int) -> Tensor:
    """Batch normalisation over all processes; `axis` is the one of channels."""
    y, mean, variance = _Normalize.apply(x, layer.weight, layer.bias, layer._ranks, axis, layer._epsilon)
    keep = layer._momentum
    with paddle.no_grad():
        for running, batch in ((layer._mean, mean), (layer._variance, variance)):
            paddle.assign(keep * running + (1 - keep) * batch, running)
    return y


class _Normalize(PyLayer):
    """Batch normalisation with the statistics of all processes; sums are float64. Returns mean and variance as well."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, ranks: Ranks, axis: int, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        others = [number for number in range(x.ndim) if number != axis]
        shape = [-1 if number == axis else 1 for number in range(x.ndim)]
        ctx.dtype = x.dtype
        # Squares of half precision overflow.
        x = x.astype("float32") if x.dtype in _HALVES else x
        own = paddle.full([1], math.prod(x.shape[number] for number in others), "float64")
        sums = ranks.all_reduce_sum(paddle.concat([x.sum(others, "float64"), own]))
        mean = (sums[:-1] / sums[-1]).astype(x.dtype)
        centered = x - mean.reshape(shape)
        variance = ranks.all_reduce_sum((centered * centered).sum(others, "float64")) / sums[-1]
        rate = paddle.rsqrt(variance + epsilon).astype(x.dtype)
        normal = centered * rate.reshape(shape)
        ctx.save_for_backward(normal, rate, gamma, sums[-1])
        ctx.ranks, ctx.others, ctx.shape = ranks, others, shape
        y = normal * gamma.reshape(shape) + beta.reshape(shape)
        return y.astype(ctx.dtype), mean.detach(), variance.astype(x.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        normal, rate, gamma, count = ctx.saved_tensor()
        dy = dy.astype(normal.dtype)
        dbeta, dgamma = dy.sum(ctx.others, "float64"), (dy * normal).sum(ctx.others, "float64")
        shift, slope = (ctx.ranks.all_reduce_sum(paddle.concat([dbeta, dgamma])) / count).astype(dy.dtype).chunk(2)
        inner = dy - shift.reshape(ctx.shape) - normal * slope.reshape(ctx.shape)
        dx = (gamma * rate).reshape(ctx.shape) * inner
        return dx.astype(ctx.dtype), dgamma.astype(gamma.dtype), dbeta.astype(gamma.dtype)


@functools.cache
def _synchronized_range(plain: Any) -> Any:
    """A subclass of a fake quantization, accelerated or not, whose range follows the largest value of any process."""

    def forward(self: Any, x: Tensor) -> Tensor:
        if not self.training:
            return plain.forward(self, x)
        with paddle.no_grad():
            largest = x.abs().max().reshape([1]).astype(self._accum.dtype)
            magnitude, keep = self._ranks.all_reduce_max(largest), self._moving_rate
            paddle.assign(keep * self._accum + magnitude, self._accum)
            paddle.assign(keep * self._state + 1, self._state)
            paddle.assign(self._accum / self._state, self._scale)
        # It rounds with the current range.
        self.training = False
        try:
            return plain.forward(self, x)
        finally:
            self.training = True

    return type(f"Synchronized{plain.__name__}", (plain,), {"forward": forward, "_across_processes": True})


@dataclass
class Shard:
    """Rows of the current micro-batch on this rank: every `world`th one."""

    ranks: Ranks
    rows: range = range(0)
    """Rows of the current micro-batch, over all processes."""

    @property
    def first(self) -> int:
        """The first row of this process."""
        return (self.ranks.rank - self.rows.start) % self.ranks.world_size

    @property
    def own(self) -> int:
        """Number of rows of this process."""
        return len(self.rows[self.first :: self.ranks.world_size])


def share_dropout(networks: Networks, shard: Shard) -> None:
    """Let dropout draw for the whole batch, as one process would, and use the rows of this process.

    Then generators agree in all processes, and neither results nor checkpoints depend on their number.
    """
    for layer in _layers(networks, (nn.Dropout, DropConnect)):
        if type(layer) is nn.Dropout:
            layer.__class__ = SharedDropout
        elif isinstance(layer, DropConnect):
            kind: Any = type(layer)
            layer.__class__ = _shared_drop_connect(kind)
        layer._shard = shard


@functools.cache
def _shared_drop_connect(plain: Any) -> Any:
    """A subclass of `DropConnect`, accelerated or not, for some images of a batch."""

    def kept(self: Any, images: int) -> Tensor:
        shard: Shard = self._shard
        if images != shard.own:
            return plain.kept(self, images)
        drawn = plain.kept(self, len(shard.rows))
        return paddle.strided_slice(drawn, [0], [shard.first], [len(shard.rows)], [shard.ranks.world_size])

    return type(f"Shared{plain.__name__}", (plain,), {"kept": kept, "_across_processes": True})


class SharedDropout(nn.Dropout):
    """`nn.Dropout` for some rows of a batch. The batch is the first axis, or the last one of accelerated layers."""

    _across_processes = True

    def forward(self, x: Tensor) -> Tensor:
        shard: Shard = self._shard
        rows = next((axis for axis in (0, x.ndim - 1) if x.shape[axis] == shard.own), None)
        if not self.training or rows is None:
            return super().forward(x)
        shape = [len(shard.rows) if axis == rows else length for axis, length in enumerate(x.shape)]
        kept = F.dropout(paddle.ones(shape, x.dtype), self.p, self.axis, mode=self.mode)
        return x * paddle.strided_slice(kept, [rows], [shard.first], [len(shard.rows)], [shard.ranks.world_size])
