"""Evaluating what is constant in a graph."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
from onnx import NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from .onnx_graph import Graph, attributes, copy, names_read, rename_inputs

log = logging.getLogger("runner")


def fold_constants(graph: Graph) -> None:
    """Evaluate nodes of constants, take the branches of constant conditions, and leave out identities, in place."""
    renamed: dict[str, str] = {}
    nodes, outputs, waiting = [], set(graph.outputs), deque(graph.nodes)
    while waiting:
        node = waiting.popleft()
        rename_inputs(node, renamed)
        source = node.input[0] if node.input else ""
        if node.op_type == "If" and source in graph.constants:
            waiting.extendleft(reversed(_branch(graph, node)))
            continue
        if node.op_type == "Identity" and node.output[0] not in outputs:
            renamed[node.output[0]] = source
            continue
        is_constant = node.input and names_read(node) == set(node.input) <= graph.constants.keys()
        values = _computed(graph, node) if node.op_type == "Constant" or is_constant else None
        if values is None:
            nodes.append(node)
        else:
            graph.constants |= values
    graph.nodes = nodes
    for node in [node for node in nodes if node.op_type == "Identity"]:
        _rename_producer(graph, node)


def _computed(graph: Graph, node: NodeProto) -> dict[str, np.ndarray] | None:
    """The outputs of a node of constants; None where they are sequences, or where the reference cannot compute them."""
    try:
        values = ReferenceEvaluator(node).run(None, {name: graph.constants[name] for name in node.input})
    except Exception as error:
        log.debug("%s stays as it is: %s", node.op_type, error)
        return None
    if any(isinstance(value, list) for value in values):
        return None
    return {name: np.asarray(value) for name, value in zip(node.output, values, strict=True)}


def _branch(graph: Graph, node: NodeProto) -> list[NodeProto]:
    """The nodes of the branch that an If with a constant condition takes, under names that nothing else has."""
    taken = attributes(node)["then_branch" if graph.constants[node.input[0]].item() else "else_branch"]
    own = [tensor.name for tensor in taken.initializer] + [name for inner in taken.node for name in inner.output]
    names = {name: f"{node.output[0]}.{name}" for name in own if name}
    graph.constants |= {names[tensor.name]: numpy_helper.to_array(tensor) for tensor in taken.initializer}
    nodes = [copy(inner, outputs=[names.get(name, name) for name in inner.output]) for inner in taken.node]
    for inner in nodes:
        rename_inputs(inner, names)
    ends = zip(taken.output, node.output, strict=True)
    return [*nodes, *(helper.make_node("Identity", [names.get(end.name, end.name)], [output]) for end, output in ends)]


def _rename_producer(graph: Graph, identity: NodeProto) -> None:
    """Let the node before an Identity write the graph's output directly."""
    old, new = identity.input[0], identity.output[0]
    if old not in graph.producers() or old in graph.outputs:
        return
    graph.nodes.remove(identity)
    for node in graph.nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
