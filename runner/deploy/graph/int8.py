"""Quantizing an ONNX network to int8 (QDQ format), from a float one and the layers' ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, NodeProto, helper

from ...errors import ExportError
from .bounds import UNBOUNDED, bounds, relevant
from .folding import simplified
from .onnx_graph import Graph, copy
from .quantized_weight import QuantizedWeight

#: Batch size of the calibration.
BATCH = 64


@dataclass(frozen=True)
class Grid:
    """The values (q - zero) · step of unsigned bytes q from `low` to `high`."""

    step: float
    zero: int
    low: int = 0
    high: int = 255

    @classmethod
    def learnt(cls, layer: QuantizedWeight, bounds: tuple[float, float], saturates: bool) -> Grid:
        """The grid of a layer's fake-quantized input, given static bounds of that input.

        `saturates`: the grid applies the upper bound, since no float operation does.

        Non-negative inputs start at zero point 0: engines without VNNI add two products in 16 bits, which the integers
        0 to 127 never overflow.
        """
        levels = 2 ** (layer.activation_bits - 1) - 1
        step = layer.activation_scale / levels
        top = levels if layer.clip is None else max(0, min(levels, round(layer.clip / step)))
        zero = 0 if bounds[0] >= 0 else 128
        reach = (top + 0.5) * step
        low = zero - top if bounds[0] < -reach else 0
        if saturates:
            return cls(step, zero, max(0, low), zero + round(min(top, bounds[1] / step)))
        return cls(step, zero, max(0, low), zero + top if bounds[1] > reach else 255)

    @classmethod
    def spanning(cls, low: float, high: float) -> Grid:
        """256 values that cover `low` to `high` and include 0."""
        step = (high - low) / 255 or 1.0
        return cls(step, round(-low / step))


def quantize(model: ModelProto, layers: list[QuantizedWeight], images: np.ndarray) -> ModelProto:
    """A model that computes the convolutions and Gemms in `layers` in int8.

    `model` is a float model of opset 13 or later in which the weights of these layers are on their integer grid. Inputs
    of layers are rounded as by fake quantization (Jacob et al., 2018), bit for bit on the same input. Engines also need
    the output of a convolution in 8 bits: its range is the next layer's if there is one, else it is measured on
    `images` float32 [n, 3, S, S]. Additions, pooling and everything else stay float. Errors: ExportError for layers
    that the model does not have, weights off their grid, bits other than 2 to 8, and activation ranges that are not
    above 0.
    """
    graph, factors = simplified(model)
    chosen = {layer.name: layer for layer in layers}
    _check(graph, chosen)
    return _Quantizer(graph, factors, chosen).run(images)


def _check(graph: Graph, layers: Mapping[str, QuantizedWeight]) -> None:
    if missing := sorted(set(layers) - set(graph.constants)):
        raise ExportError(f"The float model has no weight {', '.join(missing[:3])} of {len(missing)} quantized layers.")
    for layer in layers.values():
        for what, bits in (("weight", layer.weight_bits), ("activation", layer.activation_bits)):
            if not 2 <= bits <= 8:
                raise ExportError(
                    f"{layer.name} has {bits} {what} bits; integers of an ONNX file have 2 to 8. Train with fewer: "
                    f"compression.quantize.{what}_bits=8"
                )
        if not layer.activation_scale > 0:
            raise ExportError(f"{layer.name} has learnt no range of activations ({layer.activation_scale}). Train it.")


class _Quantizer:
    """Builds a quantized graph node by node."""

    def __init__(self, graph: Graph, factors: Mapping[str, np.ndarray], layers: Mapping[str, QuantizedWeight]) -> None:
        self.graph, self.factors, self.layers = graph, factors, layers
        self.readers, self.bounds = graph.readers(), bounds(graph)
        self.result = Graph(graph.model, [], dict(graph.constants))
        self.floats: dict[str, str] = {}
        """Tensor → the tensor that holds it in float in the result, if its name differs."""
        self.rounded: dict[tuple[str, Grid], str] = {}
        self.quantized_weights: dict[str, tuple[str, np.ndarray]] = {}
        self.saturating: set[str] = set()
        """Tensors whose upper bound integers apply: a float Clip would keep engines from fusing the layer with them."""
        for node in graph.nodes:
            activation = self.activation(node) if self.layer(node) else None
            if activation and activation.op_type == "Clip":
                self.saturating.add(activation.output[0])
            elif node.op_type == "MaxPool" and node.input[0] in self.saturating:
                self.saturating.add(node.output[0])

    def run(self, images: np.ndarray) -> ModelProto:
        grids = self.output_grids(images)
        done: set[str] = set()
        for node in self.graph.nodes:
            target = node.output[0]
            if target in done:
                continue
            layer = self.layer(node)
            if node.op_type == "MaxPool" and self.pools_integers(node, grids):
                grid = grids[node.input[0]]
                self.result.nodes.append(copy(node, [self.rounded[node.input[0], grid]], [target]))
                self.floats[target] = self.round(target, target, grid)
            elif layer is None:
                self.result.nodes.append(copy(node, [self.floats.get(name, name) for name in node.input]))
            else:
                self.result.nodes.append(copy(node, self.layer_inputs(node, layer)))
                end = self.end(node)
                if end != target:
                    if end in grids:
                        self.add("Relu", [target], end)
                    else:
                        self.result.nodes.append(copy(self.readers[target][0]))
                    done.add(end)
                if end in grids:
                    self.floats[end] = self.round(end, end, grids[end])
        self.result.compact()
        return self.result.write()

    def layer(self, node: NodeProto) -> QuantizedWeight | None:
        return self.layers.get(node.input[1]) if node.op_type in ("Conv", "Gemm", "MatMul") else None

    def end(self, node: NodeProto) -> str:
        """The output of a layer: that of its activation if saturating integers apply it."""
        activation = self.activation(node)
        return activation.output[0] if activation else node.output[0]

    def activation(self, node: NodeProto) -> NodeProto | None:
        """The ReLU or ReLU6 that is a layer's only reader: saturating non-negative integers compute the same."""
        readers = self.readers[node.output[0]]
        if len(readers) != 1 or node.output[0] in self.graph.outputs:
            return None
        [reader] = readers
        from_zero = reader.op_type == "Clip" and self.bounds.get(reader.output[0], (-1.0,))[0] == 0
        return reader if reader.op_type == "Relu" or from_zero else None

    def input_grid(self, node: NodeProto) -> Grid | None:
        """The grid to which a node rounds its input; None if it reads floats."""
        layer = self.layer(node)
        source = node.input[0]
        return Grid.learnt(layer, self.bounds.get(source, UNBOUNDED), source in self.saturating) if layer else None

    def only_grid(self, name: str) -> Grid | None:
        """The grid of a tensor if all of its readers have the same one."""
        readers = self.readers[name]
        if len(readers) == 1 and readers[0].op_type == "MaxPool":
            return self.only_grid(readers[0].output[0])
        grids = {self.input_grid(reader) for reader in readers}
        return grids.pop() if len(grids) == 1 and name not in self.graph.outputs else None

    def output_grids(self, images: np.ndarray) -> dict[str, Grid]:
        """Tensor → its grid, for the outputs of quantized convolutions."""
        ends = [self.end(node) for node in self.graph.nodes if node.op_type == "Conv" and self.layer(node)]
        ends = [name for name in ends if name not in self.graph.outputs]
        learnt = {name: grid for name in ends if (grid := self.only_grid(name))}
        ranges = self.calibrate([name for name in ends if name not in learnt], images)
        return learnt | {name: Grid.spanning(*ranges[name]) for name in ranges}

    def calibrate(self, names: list[str], images: np.ndarray) -> dict[str, tuple[float, float]]:
        """The smallest and largest value (or 0) of each tensor over all images in float, narrowed to what its readers
        distinguish (`bounds.relevant`)."""
        if not names:
            return {}
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        model = self.graph.write(extra_outputs=names).SerializeToString()
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        seen = []
        for begin in range(0, len(images), BATCH):
            values = session.run(names, {self.graph.inputs[0]: images[begin : begin + BATCH]})
            seen.append([(min(0.0, value.min()), max(0.0, value.max())) for value in values])
        lows, highs = np.array(seen).min(axis=0)[:, 0], np.array(seen).max(axis=0)[:, 1]
        return {
            name: relevant(float(low), float(high), self.readers[name])
            for name, low, high in zip(names, lows, highs, strict=True)
        }

    def pools_integers(self, node: NodeProto, grids: Mapping[str, Grid]) -> bool:
        return node.input[0] in grids and len(self.readers[node.input[0]]) == 1

    def round(self, name: str, value: str, grid: Grid) -> str:
        """Round a float tensor to a grid; returns the name of the result."""
        base = f"{name}.on{sum(key[0] == name for key in self.rounded)}"
        scale = [
            self.constant(f"{base}.step", grid.step, np.float32),
            self.constant(f"{base}.zero", grid.zero, np.uint8),
        ]
        self.add("QuantizeLinear", [value, *scale], f"{base}.int")
        integers = f"{base}.int"
        if (grid.low, grid.high) != (0, 255):
            limits = [
                self.constant(f"{base}.low", grid.low, np.uint8),
                self.constant(f"{base}.high", grid.high, np.uint8),
            ]
            self.add("Clip", [integers, *limits], f"{base}.cut")
            integers = f"{base}.cut"
        self.add("DequantizeLinear", [integers, *scale], base)
        self.rounded[name, grid] = base
        return base

    def constant(self, name: str, value: Any, dtype: type) -> str:
        self.result.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, operation: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.result.nodes.append(helper.make_node(operation, inputs, [output], output, **attributes))

    def layer_inputs(self, node: NodeProto, layer: QuantizedWeight) -> list[str]:
        source, grid = node.input[0], self.input_grid(node)
        assert grid is not None
        if (source, grid) not in self.rounded:
            self.round(source, self.floats.get(source, source), grid)
        bias = node.input[2] if len(node.input) > 2 else None
        weight, steps = self.quantize_weight(node, layer, grid.step, bias)
        inputs = [self.rounded[source, grid], weight]
        return [*inputs, self.quantize_bias(bias, steps * grid.step)] if bias else inputs

    def quantize_weight(
        self, node: NodeProto, layer: QuantizedWeight, activation_step: float, bias: str | None
    ) -> tuple[str, np.ndarray]:
        """The name of a weight as integers, and the step of each channel [channels]."""
        name = node.input[1]
        if name in self.quantized_weights:
            return self.quantized_weights[name]
        weight = self.graph.constants[name].astype(np.float64)
        axis = 0 if node.op_type == "Conv" else weight.ndim - 1
        levels = 2 ** (layer.weight_bits - 1) - 1
        steps = np.abs(np.asarray(layer.weight_scale, np.float64) * self.factors.get(name, 1.0)) / levels
        steps = np.broadcast_to(np.where(steps > 0, steps, 1.0), weight.shape[axis]).copy()
        shape = [-1 if place == axis else 1 for place in range(weight.ndim)]
        distance = np.abs(weight / steps.reshape(shape) - np.round(weight / steps.reshape(shape))).max()
        if distance > 0.05 or np.abs(weight / steps.reshape(shape)).max() > levels + 0.5:
            raise ExportError(f"{name} is not on the integer grid of its range: it is {distance:.2f} steps off.")
        if bias:
            # If a bias needs more than 32 bits, the weights of its channel are tiny in comparison: they get a coarser
            # step.
            least = np.abs(self.graph.constants[bias].astype(np.float64)) / activation_step / 2**30
            steps = np.maximum(steps, least)
        integers = np.round(weight / steps.reshape(shape))
        self.quantized_weights[name] = self.dequantize(name, integers, steps, np.int8, axis), steps
        return self.quantized_weights[name]

    def quantize_bias(self, name: str, steps: np.ndarray) -> str:
        """The name of a bias as 32-bit integers, in the steps of the sums that it is added to [channels]."""
        return self.dequantize(name, np.round(self.graph.constants[name] / steps), steps, np.int32, 0)

    def dequantize(self, name: str, integers: np.ndarray, steps: np.ndarray, dtype: type, axis: int) -> str:
        """The name of a constant that is stored as integers and dequantized. Two layers may share one."""
        result = f"{name}.real"
        if f"{name}.int" not in self.result.constants:
            stored = [self.constant(f"{name}.int", integers, dtype), self.constant(f"{name}.step", steps, np.float32)]
            if dtype is np.int8:
                # Without a zero point it is 0 as well, but onnxruntime 1.32 then computes a Gemm in float.
                stored.append(self.constant(f"{name}.zero", np.zeros(len(steps)), dtype))
            self.add("DequantizeLinear", stored, result, axis=axis)
        return result
