"""Mixed precision: casting forward passes, and scaling, stepping and clearing gradients in the one correct order."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import Tensor, nn

from .. import config as cfg
from ..config.rules.devices import without_mixed_precision
from ..errors import ConfigError
from .optimizers import Optimization

#: Compute capability (major) from which Paddle 3.3.1 casts; below it Paddle warns in every step and computes in
#: float32.
LEAST_CAPABILITY = {"float16": 7, "bfloat16": 8}
#: Fake-quantization operators. Paddle 3.3.1 would cast the ranges that they keep to float16 as well.
IN_FLOAT32 = {
    "fake_quantize_dequantize_abs_max", "fake_quantize_dequantize_moving_average_abs_max",
    "fake_channel_wise_quantize_dequantize_abs_max",
}  # fmt: skip


@dataclass
class Precision:
    """How forward passes are cast and how optimizers step."""

    dtype: str = "float32"
    """float32, float16 or bfloat16."""
    level: str = "O0"
    """O0 (off), O1 or O2."""
    scaler: Any = None
    """`paddle.amp.GradScaler`, or None where losses are not scaled."""
    fell_back: bool = False
    """Whether mixed precision was asked for but the device does not support it."""

    @property
    def handles_overflow(self) -> bool:
        """Whether a loss that is not finite merely lowers the loss scale."""
        scale = self.loss_scale
        return scale is not None and self.scaler.is_use_dynamic_loss_scaling() and scale > 1.0

    @property
    def loss_scale(self) -> float | None:
        """Factor of the losses; None where they are not scaled."""
        return None if self.scaler is None else float(self.scaler._scale.item())

    def autocast(self) -> AbstractContextManager[Any]:
        """Context of forward passes and losses."""
        if self.level == "O0":
            return contextlib.nullcontext()
        return paddle.amp.auto_cast(level=self.level, dtype=self.dtype, custom_black_list=IN_FLOAT32)

    def decorate(self, networks: Sequence[nn.Layer], optimizers: Sequence[Any]) -> None:
        """Cast the weights in place and keep float32 masters where the level is O2."""
        if self.level == "O2":
            paddle.amp.decorate(
                models=list(networks),
                optimizers=list(optimizers),
                level=self.level,
                dtype=self.dtype,
                master_weight=True,
            )

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of the (scaled) loss."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self, optimizations: Sequence[Optimization]) -> None:
        """Unscale, clip and step every optimizer, update the scale once, clear every gradient."""
        if self.scaler is None:
            for optimization in optimizations:
                optimization.step()
        else:
            self._scaled_step(optimizations)
        for optimization in optimizations:
            optimization.optimizer.clear_grad(set_to_zero=False)

    def _scaled_step(self, optimizations: Sequence[Optimization]) -> None:
        # Paddle 3.3.1: the scaler remembers the overflow of the last optimizer only, and a static scale forgets after
        # one step which gradients are unscaled. All optimizers skip a step together, and none is unscaled twice.
        overflow = None
        for optimization in optimizations:
            self.scaler.unscale_(optimization.optimizer)
            own = self.scaler._found_inf
            overflow = own if overflow is None else overflow | own
        unscaled = self.scaler._optimizer_states
        for optimization in optimizations:
            optimization.clip()
            self.scaler._found_inf = overflow
            self.scaler._optimizer_states = unscaled
            self.scaler.step(optimization.optimizer)
        self.scaler.update()


def build(config: cfg.Amp, device: str) -> Precision:
    """The precision that the config chooses on `cpu` or `gpu`.

    Errors: ConfigError where the device has no mixed precision and `amp.fallback` does not allow float32.
    """
    if not isinstance(config, cfg.Bf16):
        return Precision()
    if device == "cpu":
        if config.fallback:
            return Precision(fell_back=True)
        for problem in without_mixed_precision(config):
            raise ConfigError(problem)
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[config.kind]
    if paddle.device.cuda.get_device_capability()[0] < LEAST_CAPABILITY[dtype]:
        if config.fallback:
            return Precision(fell_back=True)
        other = "amp=fp16, amp=off" if dtype == "bfloat16" else "amp=off"
        raise ConfigError(
            f"amp={config.kind}: this GPU ({paddle.device.cuda.get_device_name()}) is too old for {dtype}, and Paddle "
            f"would compute in float32. Use {other}, or amp.fallback=true to let it."
        )
    if isinstance(config, cfg.Fp16):
        scaler = paddle.amp.GradScaler(init_loss_scaling=config.initial_scale, use_dynamic_loss_scaling=config.dynamic)
        return Precision(dtype, config.level.name, scaler)
    return Precision(dtype, config.level.name)
