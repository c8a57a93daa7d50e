"""Propagates channel labels through each operator, which shows what pruning must cut together. Tested with Paddle
3.3.1."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import paddle
from paddle import nn

from ..errors import ConfigError, telling_line
from ..models.input_check import preserved
from . import shapes
from .labels import BOUND, FREE, Labels

#: Operators that act on each channel separately.
CHANNELWISE = {
    "abs", "assign", "bilinear_interp", "cast", "ceil", "celu", "clip", "dropout", "elu", "exp", "floor", "gelu",
    "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log", "logsigmoid", "mish", "nearest_interp",
    "pad", "pad3d", "pool2d", "pow", "reciprocal", "relu", "relu6", "round", "rsqrt", "scale", "selu", "share_data",
    "sigmoid", "sign", "silu", "softplus", "softshrink", "softsign", "sqrt", "square", "stanh", "swish", "tanh",
    "tanh_shrink", "thresholded_relu", "max_pool2d_with_index",
}  # fmt: skip
#: Operators of two values, with broadcasting.
BINARY = {"add", "subtract", "multiply", "divide", "maximum", "minimum", "elementwise_pow", "fmax", "fmin"}
#: Operators over some axes.
REDUCING = {"mean", "sum", "max", "min", "amax", "amin", "prod"}
#: Operators whose results have no channels.
CONSTANTS = {"full", "full_int_array", "full_like", "assign_value", "shape", "shape64", "arange"}


def follow(network: nn.Layer, input_shape: tuple[int, int, int]) -> Labels:
    """The channels of a network's parameters; those that must be cut together are one class.

    The network is restored afterwards. Errors: ConfigError if Paddle cannot trace it.
    """

    @paddle.jit.not_to_static
    def forward(images: Any) -> Any:
        return network(images)

    spec = [paddle.static.InputSpec([1, *input_shape], "float32")]
    try:
        with preserved(network), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.eval()
            traced = paddle.jit.to_static(forward, input_spec=spec, full_graph=True).concrete_program
    except Exception as error:
        # The only common base class of Paddle's errors.
        raise ConfigError(
            f"{type(network).__name__} cannot be traced for pruning. Choose another model, or compression=none.\n"
            f"The reason: {telling_line(error)}"
        ) from error
    depthwise = {layer.weight.name for _, layer in shapes.convolutions(network) if shapes.is_depthwise(layer)}
    reader = _Reader({tensor.name: name for name, tensor in network.state_dict().items()}, depthwise)
    for operator in traced.main_program.global_block().ops:
        reader.read(operator)
    for output in traced.outputs:
        reader.labels.bound(reader.of(output))
    return reader.labels


def _shape(value: Any) -> list[int]:
    return [int(size) for size in value.shape]


class _Reader:
    """The labels of a program's values so far."""

    def __init__(self, structured: dict[str, str], depthwise: set[str]) -> None:
        self.labels = Labels()
        self._structured = structured
        self._depthwise = {structured[name] for name in depthwise}
        self._parameters: dict[str, str] = {}
        self._values: dict[str, np.ndarray] = {}
        self._lists: dict[str, list[Any]] = {}
        self._constants: dict[str, Any] = {}

    def of(self, value: Any) -> np.ndarray:
        """The labels of a value; of a parameter only if a single axis has several channels."""
        if value.id in self._values:
            return self._values[value.id]
        shape = _shape(value)
        wide = [axis for axis, size in enumerate(shape) if size > 1]
        if value.id not in self._parameters or not wide:
            return np.full([1] * len(shape), FREE)
        if len(wide) > 1:
            return np.full([1] * len(shape), BOUND)
        return self._axis(value, wide[0]).reshape([size if size > 1 else 1 for size in shape])

    def read(self, operator: Any) -> None:
        """Give the results of an operator their labels."""
        name = operator.name().removeprefix("pd_op.").removesuffix("_")
        inputs = [value for value in operator.operands_source() if value.initialized()]
        results = operator.results()
        match name:
            case "builtin.parameter":
                structured = self._structured.get(operator.attrs()["parameter_name"])
                if structured is not None:
                    self._parameters[results[0].id] = structured
            case "data":
                self._values[results[0].id] = np.full([1] * len(results[0].shape), BOUND)
            case "builtin.combine":
                self._lists[results[0].id] = inputs
            case "builtin.split":
                for result, labels in zip(results, self._lists.get(inputs[0].id, []), strict=False):
                    self._values[result.id] = labels if isinstance(labels, np.ndarray) else self.of(labels)
            case "split" | "split_with_num":
                self._lists[results[0].id] = self._split(operator, inputs)
            case "full" | "full_int_array":
                self._constants[results[0].id] = operator.attrs()["value"]
            case _ if name not in CONSTANTS and results:
                labels = self._labels(name, operator, inputs, results[0])
                if labels is None:
                    labels = self._bound(inputs, results[0])
                self._values[results[0].id] = labels

    def _labels(self, name: str, operator: Any, inputs: list[Any], result: Any) -> np.ndarray | None:
        """The labels of a result; None if its channels are unknown."""
        attributes = operator.attrs()
        if attributes.get("data_format", "NCHW") not in ("NCHW", "AnyLayout", "NCDHW"):
            return None
        match name:
            case "conv2d" | "depthwise_conv2d":
                return self._convolution(attributes["groups"], *inputs[:2])
            case "batch_norm" | "sync_batch_norm" | "instance_norm":
                return self._normalised(inputs)
            case "matmul" | "linear":
                return self._product(attributes, inputs)
            case "reshape" | "flatten" | "squeeze" | "unsqueeze":
                return self.labels.reshaped(self.of(inputs[0]), _shape(inputs[0]), _shape(result))
            case "transpose":
                return self.of(inputs[0]).transpose(attributes["perm"])
            case "concat":
                return self._joined(inputs)
            case "softmax":
                return self._unless_along([attributes["axis"]], inputs[0])
            case "slice" | "strided_slice":
                kept = self._unless_along(attributes["axes"], inputs[0])
                gone = attributes.get("decrease_axis") or []
                return None if kept is None else kept.squeeze(tuple(gone))
            case _ if name in REDUCING:
                return self._reduced(attributes, inputs, len(result.shape))
            case _ if name in BINARY:
                return self._broadcast(inputs[0], inputs[1])
            case _ if name in CHANNELWISE:
                labels = self.of(inputs[0])
                sizes = zip(_shape(inputs[0]), _shape(result), labels.shape, strict=True)
                return labels if all(old == new or own == 1 for old, new, own in sizes) else None
        return None

    def _bound(self, inputs: list[Any], result: Any) -> np.ndarray:
        """Bind all inputs of an operator: their channels cannot be cut."""
        for value in inputs:
            for one in self._lists.get(value.id, [value]):
                if not isinstance(one, np.ndarray):
                    self._bind_all(one)
        # Some operators have lists for results, which have no shape.
        return np.full([1] * (0 if result.is_combine() else len(result.shape)), BOUND)

    def _bind_all(self, value: Any) -> None:
        if value.id in self._parameters:
            for axis in range(len(value.shape)):
                self.labels.bound(self._axis(value, axis))
        else:
            self.labels.bound(self.of(value))

    def _axis(self, parameter: Any, axis: int) -> np.ndarray:
        return self.labels.of(self._parameters[parameter.id], axis, _shape(parameter)[axis])

    def _summed(self, weight: Any, axis: int) -> np.ndarray:
        """The labels of a weight along the axis over which it sums."""
        self.labels.summed.add((self._parameters[weight.id], axis))
        return self._axis(weight, axis)

    def _convolution(self, groups: int, images: Any, weight: Any) -> np.ndarray | None:
        labels = self.of(images)
        if weight.id not in self._parameters or any(size > 1 for size in (labels.shape[0], *labels.shape[2:])):
            return None
        (filters, width), channels = _shape(weight)[:2], _shape(images)[1]
        own, out = np.broadcast_to(labels.ravel(), channels), self._axis(weight, 0)
        if self._parameters[weight.id] in self._depthwise:
            # Whole groups go away.
            self.labels.bind(own.repeat(filters // groups), out)
        else:
            self.labels.bind(own.reshape(groups, width), self._summed(weight, 1))
            # Every group loses as many channels as the others.
            of_groups = out.reshape(groups, -1)
            self.labels.bind(of_groups, of_groups[:1])
        return out.reshape(1, -1, 1, 1)

    def _normalised(self, inputs: list[Any]) -> np.ndarray | None:
        labels = self.of(inputs[0])
        channels = [1] * labels.ndim
        channels[1] = -1
        for parameter in inputs[1:]:
            if parameter.id not in self._parameters:
                return None
            labels = self.labels.bind(labels, self._axis(parameter, 0).reshape(channels))
        return labels

    def _product(self, attributes: dict[str, Any], inputs: list[Any]) -> np.ndarray | None:
        labels, weight = self.of(inputs[0]), inputs[1]
        plain = weight.id in self._parameters and len(weight.shape) == 2 and not attributes.get("transpose_x")
        if not plain or any(size > 1 for size in labels.shape[:-1]):
            return None
        summed, out = (1, 0) if attributes.get("transpose_y") else (0, 1)
        self.labels.bind(labels, self._summed(weight, summed))
        result = self._axis(weight, out)
        for bias in inputs[2:]:
            result = self.labels.bind(result, self._axis(bias, 0))
        return result.reshape([*[1] * (labels.ndim - 1), -1])

    def _joined(self, inputs: list[Any]) -> np.ndarray | None:
        values, axis = self._lists.get(inputs[0].id, []), self._constants.get(inputs[1].id)
        labels = [self.of(value) for value in values]
        if axis is None or not labels:
            return None
        axis = int(axis) % labels[0].ndim
        sizes = [max(one.shape[place] for one in labels) for place in range(labels[0].ndim)]
        if sizes[axis] == 1:
            joined = labels[0]
            for one in labels[1:]:
                joined = self.labels.bind(joined, one)
            return joined
        full = [[*sizes[:axis], _shape(value)[axis], *sizes[axis + 1 :]] for value in values]
        return np.concatenate(
            [np.broadcast_to(one, size) for one, size in zip(labels, full, strict=True)], axis=axis
        )  # fmt: skip

    def _split(self, operator: Any, inputs: list[Any]) -> list[np.ndarray]:
        labels, axis = self.of(inputs[0]), self._constants.get(inputs[-1].id)
        parts = operator.attrs().get("num") or self._constants.get(inputs[1].id)
        sizes = [parts] if isinstance(parts, int) else list(parts or [])
        count = parts if isinstance(parts, int) else len(sizes)
        if axis is not None and labels.shape[int(axis)] == 1:
            return [labels] * count
        if axis is None or len(set(sizes)) != 1:
            return [self._bound(inputs[:1], inputs[0])] * count
        # The parts stay equal.
        chunks = np.split(labels, count, axis=int(axis))
        return [self.labels.bind(chunk, chunks[0]) for chunk in chunks]

    def _unless_along(self, axes: list[int], value: Any) -> np.ndarray | None:
        """The labels of a value, unless it has channels along one of the axes."""
        labels = self.of(value)
        return None if any(labels.shape[axis] > 1 for axis in axes) else labels

    def _reduced(self, attributes: dict[str, Any], inputs: list[Any], rank: int) -> np.ndarray | None:
        axes = attributes.get("axis", self._constants.get(inputs[1].id) if len(inputs) > 1 else None)
        labels = self._unless_along(list(axes or range(len(inputs[0].shape))), inputs[0])
        if labels is None or labels.ndim == rank:
            return labels
        return labels.squeeze(tuple(axes or range(labels.ndim)))

    def _broadcast(self, one: Any, other: Any) -> np.ndarray:
        """Bind both; a value that many channels of the other share is not cut."""
        rank = max(len(one.shape), len(other.shape))
        shapes = [[1] * (rank - len(value.shape)) + _shape(value) for value in (one, other)]
        labels = [self.of(value).reshape([1] * (rank - len(value.shape)) + list(self.of(value).shape))
                  for value in (one, other)]  # fmt: skip
        for own, against in ((0, 1), (1, 0)):
            spread = [a == 1 and b > 1 for a, b in zip(shapes[own], labels[against].shape, strict=True)]
            if any(spread) and labels[own].size == 1:
                self.labels.bound(labels[own])
                labels[own] = np.full_like(labels[own], FREE)
        return self.labels.bind(*labels)
