"""An ONNX graph as lists and dicts, for rewriting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper


@dataclass
class Graph:
    """Nodes in topological order, and the constant tensors."""

    model: ModelProto
    """The model that it was read from, whose inputs, outputs and versions are kept."""
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(cls, model: ModelProto) -> Graph:
        """An independent copy of a model's graph."""
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        return cls(model, [copy(node) for node in model.graph.node], constants)

    def write(self, extra_outputs: list[str] | None = None) -> ModelProto:
        """A model of the nodes that the outputs need; checked if there are no extra outputs.

        Errors: onnx.checker.ValidationError.
        """
        result = ModelProto()
        result.CopyFrom(self.model)
        graph = result.graph
        for rewritten in (graph.node, graph.initializer, graph.value_info):
            del rewritten[:]
        graph.output.extend(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in extra_outputs or []
        )
        needed = {output.name for output in graph.output}
        alive = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                alive.append(node)
                needed |= names_read(node)
        graph.node.extend(reversed(alive))
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value, order="C"), name)
            for name, value in self.constants.items()
            if name in needed
        )
        if not extra_outputs:
            onnx.checker.check_model(result, full_check=True)
        return result

    def compact(self) -> None:
        """Store equal constants once, and give all tensors but the ends short names, in place.

        A graph with graphs within, which name its tensors too, stays as it is.
        """
        if any(graphs_within(node) for node in self.nodes):
            return
        short = {name: name for name in (*self.inputs, *self.outputs)}
        constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        for name in dict.fromkeys(name for node in self.nodes for name in (*node.input, *node.output)):
            own = f"t{len(short)}"
            if name in self.constants:
                value = self.constants[name]
                own = constants.setdefault((str(value.dtype), value.shape, value.tobytes()), own)
            # An input that is left out has an empty name.
            short.setdefault(name, own if name else "")
        for node in self.nodes:
            node.input[:] = [short[name] for name in node.input]
            node.output[:] = [short[name] for name in node.output]
            node.name = node.output[0]
        self.constants = {short[name]: value for name, value in self.constants.items() if name in short}

    @property
    def inputs(self) -> list[str]:
        return [value.name for value in self.model.graph.input]

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self.model.graph.output]

    def producers(self) -> dict[str, NodeProto]:
        """Tensor → the node that computes it."""
        return {name: node for node in self.nodes for name in node.output}

    def readers(self) -> dict[str, list[NodeProto]]:
        """Tensor → the nodes that read it."""
        readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                readers[name].append(node)
        return readers

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor → its shape if its rank is known; 0 for a dynamic dimension."""
        model = onnx.shape_inference.infer_shapes(self.write(), data_prop=True)
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in values
            if value.type.tensor_type.HasField("shape")
        }


def copy(node: NodeProto, inputs: list[str] | None = None, outputs: list[str] | None = None) -> NodeProto:
    """The same operation, with other inputs or outputs if they are given."""
    result = NodeProto()
    result.CopyFrom(node)
    for own, names in ((result.input, inputs), (result.output, outputs)):
        if names is not None:
            own[:] = names
    if outputs:
        result.name = outputs[0]
    return result


def graphs_within(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node contains, such as the branches of an If; they name tensors of the graph around them."""
    return [graph for one in node.attribute for graph in ([one.g] if one.HasField("g") else [*one.graphs])]


def names_read(node: NodeProto) -> set[str]:
    """The tensors that a node reads, also in graphs within it."""
    names = set(node.input)
    for graph in graphs_within(node):
        names |= {value.name for value in graph.output}.union(*map(names_read, graph.node)) - _names_of(graph)
    return names


def _names_of(graph: GraphProto) -> set[str]:
    """The names that a graph gives, which may be those of tensors around it."""
    return {one.name for one in (*graph.input, *graph.initializer)}.union(*(node.output for node in graph.node))


def rename_inputs(node: NodeProto, names: Mapping[str, str]) -> None:
    """Let a node, and graphs within it, read tensors by other names, in place."""
    node.input[:] = [names.get(name, name) for name in node.input]
    for graph in graphs_within(node):
        outer = {name: new for name, new in names.items() if name not in _names_of(graph)}
        for value in graph.output:
            value.name = outer.get(value.name, value.name)
        for inner in graph.node:
            rename_inputs(inner, outer)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Name → value of a node's attributes."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
