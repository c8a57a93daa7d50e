"""A float ONNX network in half precision."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper

from .onnx_graph import Graph, copy

#: The largest number of float16.
LARGEST = 65504.0
#: Inputs that must stay float32: operation → their positions.
SINGLE = {"Resize": (1, 2)}


def halved(model: ModelProto) -> ModelProto:
    """The network with weights and arithmetic in float16; its input and output stay float32.

    Weights beyond the range of float16 are clipped to it. `model` must be entirely in float32.
    """
    graph = Graph.read(model)
    [images], [logits] = graph.inputs, graph.outputs
    single = {
        name for node in graph.nodes for place, name in enumerate(node.input) if place in SINGLE.get(node.op_type, ())
    }
    for name, value in graph.constants.items():
        if value.dtype == np.float32 and name not in single:
            graph.constants[name] = _half(value)
    renamed = {images: f"{images}.half", logits: f"{logits}.half"}
    nodes = [helper.make_node("Cast", [images], [renamed[images]], to=TensorProto.FLOAT16)]
    for node in graph.nodes:
        inputs, outputs = ([renamed.get(name, name) for name in names] for names in (node.input, node.output))
        nodes.append(copy(node, inputs, outputs))
        for attribute in nodes[-1].attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.type == AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
                # The value of a ConstantOfShape.
                attribute.t.CopyFrom(numpy_helper.from_array(_half(numpy_helper.to_array(attribute.t))))
    graph.nodes = [*nodes, helper.make_node("Cast", [renamed[logits]], [logits], to=TensorProto.FLOAT)]
    return graph.write()


def _half(value: np.ndarray) -> np.ndarray:
    return np.clip(value, -LARGEST, LARGEST).astype(np.float16)
