"""Static bounds: what is known about the values of tensors for any input."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from .onnx_graph import Graph, attributes

Bounds = tuple[float, float]

UNBOUNDED: Bounds = (-math.inf, math.inf)

#: Operations that select or average values.
KEEPING = {"MaxPool", "GlobalAveragePool", "AveragePool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}
#: Operation → bounds of its result for any input.
RESULTS = {"Relu": (0.0, math.inf), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "HardSwish": (-0.375, math.inf)}


def bounds(graph: Graph) -> dict[str, Bounds]:
    """Tensor → its smallest and largest possible value, for bounded tensors only."""
    bounds_of: dict[str, Bounds] = {
        name: (float(value.min()), float(value.max()))
        for name, value in graph.constants.items()
        if value.size and np.issubdtype(value.dtype, np.floating)
    }
    for node in graph.nodes:
        source, target = node.input[0], node.output[0]
        if node.op_type in RESULTS:
            bounds_of[target] = RESULTS[node.op_type]
        elif node.op_type in KEEPING and source in bounds_of:
            bounds_of[target] = bounds_of[source]
        elif node.op_type == "Mul" and all(bounds_of.get(name, (-1,))[0] >= 0 for name in node.input):
            bounds_of[target] = (0.0, math.inf)
        elif node.op_type == "Clip":
            limits = [bounds_of.get(name) for name in [*node.input[1:], "", ""][:2]]
            low, high = limits[0][0] if limits[0] else -math.inf, limits[1][1] if limits[1] else math.inf
            least, most = bounds_of.get(source, UNBOUNDED)
            bounds_of[target] = min(max(least, low), high), min(max(most, low), high)
    return bounds_of


def relevant(low: float, high: float, readers: list[NodeProto]) -> Bounds:
    """The part of a range that matters: outside of it no reader distinguishes values."""
    limits = [_distinguished(node) for node in readers]
    if not limits:
        return low, high
    return max(low, min(limit[0] for limit in limits)), min(high, max(limit[1] for limit in limits))


def _distinguished(node: NodeProto) -> Bounds:
    if node.op_type == "HardSwish":
        return -3.0, math.inf
    if node.op_type == "HardSigmoid":
        settings = attributes(node)
        alpha, beta = settings.get("alpha", 0.2), settings.get("beta", 0.5)
        return -beta / alpha, (1 - beta) / alpha
    return -math.inf, math.inf
