"""ReLU as an operator of this package; the kernels are in relu.cc and relu.cu."""

from __future__ import annotations

import functools
from pathlib import Path

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from .compile import register

HERE = Path(__file__).parent
NAME = "runner_relu"


@functools.cache
def _registered() -> None:
    sources = [HERE / "relu.cc"]
    if paddle.is_compiled_with_cuda():
        sources.append(HERE / "relu.cu")
    register(NAME, sources)


def custom_relu(x: Tensor) -> Tensor:
    """ReLU by this package's own kernels, compiled on first use (seconds) and kept in the user's cache folder.

    Any shape; float32 and float64, on GPU also float16 and bfloat16. The gradient at 0 is 0. Traced graphs (export,
    pruning) get Paddle's ReLU instead, so that they run without the compiled library. Errors: ConfigError without a
    working compiler.
    """
    if not paddle.in_dynamic_mode():
        return F.relu(x)
    _registered()
    if not paddle.is_grad_enabled():
        # Paddle 3.3 records a custom operator even under no_grad if its input requires a gradient.
        x = x.detach()
    (result,) = paddle._C_ops._run_custom_op(NAME, x)  # type: ignore[attr-defined]
    return result
