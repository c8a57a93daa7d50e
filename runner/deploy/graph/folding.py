"""Simplifying a float network before quantization: the same function with fewer nodes and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper

from .bounds import UNBOUNDED, Bounds, bounds
from .constants import fold_constants
from .onnx_graph import Graph, attributes, copy

#: Element-wise operations.
ELEMENTWISE = {"Relu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Gelu", "Clip", "Add", "Mul"}


def fold(model: ModelProto) -> ModelProto:
    """A float model that computes the same, up to rounding, with fewer nodes and weights.

    BatchNormalization is folded into the convolution before it, kernel taps that only ever see padding are removed (the
    image size is fixed), a convolution that sees its whole input at once becomes a Gemm, and clips lose the limits that
    their input never reaches.
    """
    graph, _ = simplified(model)
    _simplify_clips(graph)
    return graph.write()


def simplified(model: ModelProto) -> tuple[Graph, dict[str, np.ndarray]]:
    """`fold` as a graph, and for weights with a folded BatchNormalization or Add the factor of each output channel,
    float64 [channels].

    Weights keep their names. A Gemm's are [inputs, outputs], a Conv's [outputs, inputs / groups, height, width].
    """
    graph = Graph.read(model)
    fold_constants(graph)
    readers = graph.readers()
    # A weight that two convolutions share must not change.
    own = {name for name in graph.constants if len(readers[name]) == 1}
    factors = _fold_batch_norms(graph, own)
    shapes = graph.shapes()
    for node in graph.nodes:
        if node.op_type == "Conv" and node.input[1] in own:
            _leave_out_unused_taps(graph, node, shapes)
    _join_biases(graph, shapes)
    _flatten_single_pixels(graph, own, shapes)
    return graph, factors


def _simplify_clips(graph: Graph) -> None:
    """Remove limits that no value reaches, and clips without any; one that alone reads a ReLU or a clip replaces it.

    Engines join a convolution with one activation after it, not with a ReLU and a clip.
    """
    limits_of, producers, readers = bounds(graph), graph.producers(), graph.readers()
    nodes, renamed = list[NodeProto](), dict[str, str]()
    for node in graph.nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        source, target = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "Clip" and all(name in graph.constants for name in node.input[1:] if name):
            before = producers.get(source)
            if before is not None and before.op_type in ("Relu", "Clip") and len(readers[source]) == 1:
                source = before.input[0]
            limits = _reached(limits_of[target], limits_of.get(source, UNBOUNDED))
            if not limits and target not in graph.outputs:
                renamed[target] = source
                continue
            names = {end: f"{target}.{end}" for end in limits}
            graph.constants |= {names[end]: np.asarray(value, np.float32) for end, value in limits.items()}
            node = helper.make_node("Clip", [source, names.get("low", ""), names.get("high", "")], [target], target)
            producers[target] = node
        nodes.append(node)
    graph.nodes = nodes


def _reached(limits: Bounds, values: Bounds) -> dict[str, float]:
    """Those of the limits `low` and `high` that some of the values are beyond."""
    within = {"low": limits[0] > values[0], "high": limits[1] < values[1]}
    return {end: limit for (end, is_reached), limit in zip(within.items(), limits, strict=True) if is_reached}


def _fold_batch_norms(graph: Graph, own: set[str]) -> dict[str, np.ndarray]:
    factors: dict[str, np.ndarray] = {}
    producers, readers, nodes = graph.producers(), graph.readers(), []
    for node in graph.nodes:
        conv = producers.get(node.input[0])
        change = None
        if (
            conv is not None
            and conv.op_type == "Conv"
            and conv.input[1] in own
            and len(readers[node.input[0]]) == 1
            and node.input[0] not in graph.outputs
        ):
            change = _scale_and_shift(graph, node, graph.constants[conv.input[1]].shape[0])
        if conv is None or change is None:
            nodes.append(node)
            continue
        (scale, shift), weight = change, conv.input[1]
        bias = graph.constants[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        scaled = graph.constants[weight] * scale.reshape(-1, 1, 1, 1)
        graph.constants[weight] = scaled.astype(np.float32)
        graph.constants[f"{weight}.bias"] = (bias * scale + shift).astype(np.float32)
        factors[weight] = factors.get(weight, 1.0) * scale
        conv.input[:] = [conv.input[0], weight, f"{weight}.bias"]
        conv.output[:] = [node.output[0]]
        producers[node.output[0]] = conv
    graph.nodes = nodes
    return factors


def _scale_and_shift(graph: Graph, node: NodeProto, channels: int) -> tuple[np.ndarray, np.ndarray] | None:
    """scale and shift of a node that computes y = scale · x + shift for each channel, [channels]; else None."""
    constants = [graph.constants[name] for name in node.input[1:] if name in graph.constants]
    if len(constants) < len(node.input) - 1:
        return None
    if node.op_type == "BatchNormalization":
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in constants)
        scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        return scale, beta - mean * scale
    if node.op_type == "Add" and constants[0].shape[-3:] == (channels, 1, 1) and constants[0].size == channels:
        return np.ones(channels), constants[0].reshape(-1).astype(np.float64)
    return None


def _leave_out_unused_taps(graph: Graph, node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Remove the outer taps of a kernel that only ever see padding, such as all but the centre of 3×3 on one pixel."""
    weight, settings = graph.constants[node.input[1]], attributes(node)
    sizes, positions = shapes.get(node.input[0], ())[2:], shapes.get(node.output[0], ())[2:]
    pads = list(settings.get("pads", [0, 0, 0, 0]))
    if _pads_by_itself(settings) or len(sizes) != 2 or len(positions) != 2 or 0 in (*sizes, *positions):
        return
    for axis in range(2):
        stride, dilation = (settings.get(name, [1, 1])[axis] for name in ("strides", "dilations"))
        starts = stride * np.arange(positions[axis]) - pads[axis]
        taps = np.arange(weight.shape[2 + axis])
        seen = starts[:, None] + dilation * taps
        used = taps[((seen >= 0) & (seen < sizes[axis])).any(axis=0)]
        before, reach = pads[axis] - dilation * used[0], dilation * (used[-1] - used[0])
        if before >= 0:
            weight = weight.take(np.arange(used[0], used[-1] + 1), axis=2 + axis)
            pads[axis] = before
            pads[2 + axis] = max(0, stride * (positions[axis] - 1) + reach + 1 - sizes[axis] - before)
    graph.constants[node.input[1]] = weight
    kept = [attribute for attribute in node.attribute if attribute.name not in ("pads", "kernel_shape")]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("pads", [int(pad) for pad in pads])])
    node.attribute.append(helper.make_attribute("kernel_shape", weight.shape[2:]))


def _flatten_single_pixels(graph: Graph, own: set[str], shapes: dict[str, tuple[int, ...]]) -> None:
    """Compute on [N, C] instead of [N, C, 1, 1].

    A convolution processes image after image and reads all its weights for each; a Gemm reads them once a batch.
    """
    flat: dict[str, str] = {}
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        source, target = node.input[0], node.output[0]
        if node.op_type == "Conv" and node.input[1] in own and _sees_everything(graph, node, shapes):
            weight = graph.constants[node.input[1]]
            graph.constants[node.input[1]] = weight.reshape(weight.shape[0], -1).T
            flat[target] = f"{target}.flat"
            inputs = [_flat(graph, flat, source), *node.input[1:]]
            graph.nodes.append(helper.make_node("Gemm", inputs, [flat[target]], f"{target}.flat"))
        elif _is_pixel(shapes, source) and (
            node.op_type == "GlobalAveragePool"
            or (node.op_type in ("Reshape", "Flatten") and len(shapes.get(target, ())) == 2)
        ):
            flat[target] = _flat(graph, flat, source)
        elif node.op_type in ELEMENTWISE and all(
            name in flat or name == "" or _is_scalar(graph.constants.get(name)) for name in node.input
        ):
            flat[target] = f"{target}.flat"
            graph.nodes.append(copy(node, [flat.get(name, name) for name in node.input], [flat[target]]))
        else:
            inputs = [flat[name] if name in flat and len(shapes[name]) == 2 else name for name in node.input]
            for name in set(inputs) & set(flat):
                _restore(graph, flat, name, shapes)
            graph.nodes.append(copy(node, inputs))
    for name in set(graph.outputs) & set(flat):
        _restore(graph, flat, name, shapes)


def _sees_everything(graph: Graph, node: NodeProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a convolution's kernel is as large as its unpadded input, so that its output is 1×1."""
    weight, settings = graph.constants[node.input[1]], attributes(node)
    return (
        settings.get("group", 1) == 1
        and not _pads_by_itself(settings)
        and not any(settings.get("pads", []))
        and set(settings.get("dilations", [1])) == {1}
        and shapes.get(node.input[0], ())[2:] == weight.shape[2:]
    )


def _pads_by_itself(settings: Mapping[str, Any]) -> bool:
    """Whether a convolution's padding is computed by the engine (`auto_pad`)."""
    return settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET")


def _is_scalar(constant: np.ndarray | None) -> bool:
    """Whether a constant leaves the shape of two-dimensional tensors unchanged."""
    return constant is not None and constant.size == 1 and constant.ndim <= 2


def _is_pixel(shapes: dict[str, tuple[int, ...]], name: str) -> bool:
    return shapes.get(name, ())[2:] == (1, 1)


def _flat(graph: Graph, flat: dict[str, str], name: str) -> str:
    """The name of the tensor [N, C · H · W] for a tensor [N, C, H, W]."""
    if name not in flat:
        flat[name] = f"{name}.flat"
        graph.nodes.append(helper.make_node("Flatten", [name], [flat[name]], flat[name], axis=1))
    return flat[name]


def _restore(graph: Graph, flat: dict[str, str], name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    """Add [N, C, 1, 1] again for readers that cannot use [N, C]."""
    if any(name in node.output for node in graph.nodes):
        return
    shape = (0, -1, 1, 1) if len(shapes[name]) == 4 else (0, -1)
    graph.constants[f"{name}.shape"] = np.array(shape, np.int64)
    graph.nodes.append(helper.make_node("Reshape", [flat[name], f"{name}.shape"], [name], f"{name}.restored"))


def _join_biases(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> None:
    """Merge a Linear layer's MatMul and Add into one Gemm."""
    producers, readers = graph.producers(), graph.readers()
    nodes: list[NodeProto] = []
    for node in graph.nodes:
        product = producers.get(node.input[0])
        if (
            node.op_type == "Add"
            and product is not None
            and product.op_type == "MatMul"
            and len(shapes.get(product.input[0], ())) == 2
            and product.input[1] in graph.constants
            and graph.constants.get(node.input[1], np.zeros(())).shape == graph.constants[product.input[1]].shape[1:]
            and len(readers[node.input[0]]) == 1
            and node.input[0] not in graph.outputs
        ):
            nodes.remove(product)
            node = helper.make_node("Gemm", [*product.input, node.input[1]], list(node.output), node.output[0])
        nodes.append(node)
    graph.nodes = nodes
