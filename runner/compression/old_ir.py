"""Paddle's functions in its old representation of programs, which PaddleSlim reads. Tried with Paddle 3.3.1.

Paddle 3.3 made some sixty functions, such as `paddle.multiply` and `paddle.matmul`, ones of C++ that know tensors and
its new representation alone; as methods of a variable they are not even bound. Operators (`x * y`) know the old one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import paddle
from paddle import _C_ops
from paddle.base.framework import Variable
from paddle.base.layer_helper import LayerHelper

#: Functions of one tensor whose operators are called as they are.
UNARY = (
    "abs", "ceil", "cos", "exp", "expm1", "floor", "gelu", "log", "log1p", "round", "rsqrt", "sigmoid", "sign", "sin",
    "softplus", "sqrt", "tanh",
)  # fmt: skip


def _unary(name: str) -> Callable[..., Any]:
    def function(x: Any, *_args: Any, **_named: Any) -> Any:
        return _append(name, x, {})

    return function


def _append(kind: str, x: Any, attributes: dict[str, Any]) -> Any:
    helper = LayerHelper(kind)
    output = helper.create_variable_for_type_inference(dtype=x.dtype)
    helper.append_op(type=kind, inputs={"X": [x]}, outputs={"Out": [output]}, attrs=attributes)
    return output


def _multiply(x: Any, y: Any, *_args: Any, **_named: Any) -> Any:
    return x * y


def _matmul(x: Any, y: Any, transpose_x: bool = False, transpose_y: bool = False, **_named: Any) -> Any:
    return (_transposed(x) if transpose_x else x) @ (_transposed(y) if transpose_y else y)


def _transposed(x: Any) -> Any:
    *rest, last, one = range(len(x.shape))
    return paddle.transpose(x, [*rest, one, last])


def _sum(x: Any, axis: Any = None, dtype: Any = None, keepdim: bool = False, **_named: Any) -> Any:
    axes = [] if axis is None else list(axis) if isinstance(axis, (list, tuple)) else [axis]
    return _append("reduce_sum", x, {"dim": axes or [0], "keep_dim": keepdim, "reduce_all": not axes})


FUNCTIONS = {name: _unary(name) for name in UNARY} | {
    "multiply": _multiply, "matmul": _matmul, "bmm": _matmul, "sum": _sum,
}  # fmt: skip


@contextlib.contextmanager
def functions() -> Iterator[None]:
    """Within the context these functions, wherever a module has them, write operators of the old representation."""
    written = {id(getattr(_C_ops, name)): function for name, function in FUNCTIONS.items()}
    replaced: list[tuple[Any, str, Any]] = []
    for place in (*(module for module in list(sys.modules.values()) if hasattr(module, "__dict__")), Variable):
        for name, value in list(vars(place).items()):
            if id(value) in written:
                replaced.append((place, name, value))
                setattr(place, name, written[id(value)])
    try:
        yield
    finally:
        for place, name, value in replaced:
            setattr(place, name, value)
