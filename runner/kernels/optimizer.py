"""AdamW in one pass over all parameters."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import Tensor

from . import native

#: A parameter as the kernel takes it; `Entry` of src/adamw.cc.
ENTRY = np.dtype(
    [(name, np.int64) for name in ("size", "parameter", "gradient", "mean", "square", "mean_weight", "square_weight")]
    + [("decay", np.float32), ("rate", np.float32)]
)


class Row(NamedTuple):
    """A parameter with its optimizer state."""

    parameter: Tensor
    mean: Tensor
    square: Tensor
    mean_weight: Tensor
    square_weight: Tensor
    size: int
    decay: float
    rate: float


class AdamW(paddle.optimizer.AdamW):
    """`paddle.optimizer.AdamW`, equal up to float32 rounding, with its state under the same names.

    Paddle 3.3.1 calls an operator for each parameter, whose overhead exceeds its computation. Parameters or gradients
    that are not float32, as the kernel requires, still take that path.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: dict[int, Row] = {}

    def set_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, and forget what was cached of the old one."""
        self.forget()
        super().set_state_dict(state_dict)

    def forget(self) -> None:
        """Look parameters and state up again in the next step: they were replaced, or changed shape."""
        self._rows = {}

    @paddle.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        parameters = [parameter for group in self._param_groups for parameter in group["params"]]
        present = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if any(tensor.dtype != paddle.float32 for tensor in (*parameters, *present)):
            super().step()
            return
        # As in Paddle, a parameter's state is created with its first gradient.
        rows = [
            self._rows.get(id(parameter)) or self._row(parameter, group)
            for group in self._param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        # A gradient may be a strided view.
        gradients = [row.parameter.grad for row in rows]
        gradients = [gradient if gradient.is_contiguous() else gradient.contiguous() for gradient in gradients]
        entries = np.zeros(len(rows), ENTRY)
        entries["gradient"] = [gradient.data_ptr() for gradient in gradients]
        for name in ("parameter", "mean", "square", "mean_weight", "square_weight"):
            entries[name] = [getattr(row, name).data_ptr() for row in rows]
        for name in ("size", "decay", "rate"):
            entries[name] = [getattr(row, name) for row in rows]
        native.kernels().adamw(
            len(entries), entries.ctypes.data, self.get_lr(), self._beta1, self._beta2, self._epsilon
        )

    def _row(self, parameter: Tensor, group: dict[str, Any]) -> Row:
        self._create_accumulators(paddle.base.framework.default_main_program().global_block(), [parameter])
        mean, square, mean_weight, square_weight = (
            self._accumulators[kind][parameter.name]
            for kind in (
                self._moment1_acc_str, self._moment2_acc_str, self._beta1_pow_acc_str, self._beta2_pow_acc_str
            )
        )  # fmt: skip
        rate = parameter.optimize_attr["learning_rate"]
        self._rows[id(parameter)] = row = Row(
            parameter, mean, square, mean_weight, square_weight, math.prod(parameter.shape),
            float(group["weight_decay"]), rate,
        )  # fmt: skip
        return row
