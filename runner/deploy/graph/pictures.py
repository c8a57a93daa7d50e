"""Adding preprocessing to an ONNX network, so that it takes images of any size and returns probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper

from ...files import to_json
from .. import preprocessing
from ..manifest import Manifest
from .onnx_graph import Graph

#: Names of the input, uint8 [N, height, width, 3] in RGB, and of the outputs.
PICTURES, WHOLE, PROBABILITIES, LABELS = "pictures", "whole", "probabilities", "labels"
#: Pillow's weights are whole multiples of the inverse of this, and its sums are integers.
UNITS = float(1 << 22)
#: Weights are divided into whole multiples of this many units and the rest, so that every sum of 255 levels times
#: either part is below 2^24, where float32 has all whole numbers: a side may shrink to a 500th.
COARSE = 64.0


def with_pictures(model: ModelProto, manifest: Manifest) -> ModelProto:
    """A network with the preprocessing that `manifest` describes before it, and the activation after it.

    Its input is `pictures`, uint8 [N, height, width, 3], upright RGB; its outputs are `probabilities`, float32 [N, K],
    at the fitted temperature if there is one, and, multi-label, `labels`, bool [N, K], from the thresholds. `whole`,
    float64 [4], need not be given: left, upper, width and height of the whole picture in the pixels of `pictures`,
    where a decoder that scales down has filled up the last pixel of a side. The metadata have the class names, the
    colour under what is transparent, the probability below which an image is `unknown`, and what decides how large a
    JPEG is decoded. Resizing is two products with matrices of Pillow's weights, since ONNX's Resize cannot take a box
    between pixels: the same bits as Pillow's, in an engine that computes float64 as such, as onnxruntime does.
    """
    graph = Graph.read(model)
    own, graph.nodes = graph.nodes, []
    do = _Builder(graph)
    _prepare(do, manifest, graph.inputs[0])
    graph.nodes += own
    outputs = _decide(do, manifest, graph.outputs[0])
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.input[:], result.graph.output[:]
    result.graph.input.append(helper.make_tensor_value_info(PICTURES, TensorProto.UINT8, ["N", "height", "width", 3]))
    # An input with a constant of its name has that as its default.
    result.graph.input.append(helper.make_tensor_value_info(WHOLE, TensorProto.DOUBLE, [4]))
    graph.constants[WHOLE] = np.zeros(4)
    for name in outputs:
        kind = TensorProto.BOOL if name == LABELS else TensorProto.FLOAT
        result.graph.output.append(helper.make_tensor_value_info(name, kind, ["N", len(manifest.classes)]))
    helper.set_model_props(result, _metadata(manifest))
    return Graph(result, graph.nodes, graph.constants).write()


def _metadata(manifest: Manifest) -> dict[str, str]:
    steps = preprocessing.steps(manifest.preparation, manifest.mean, manifest.std)
    values = {
        "network": manifest.network,
        "model": manifest.model,
        "classes": to_json(manifest.classes),
        "preprocessing": "\n".join(steps),
        "background": to_json(manifest.background),
        # By these a client decides at which part of its size a large JPEG is decoded.
        "image_size": to_json(manifest.image_size),
        "channels": to_json(manifest.channels),
        "resize": manifest.resize,
        "crop_ratio": to_json(manifest.crop_ratio),
    }
    if manifest.thresholds:
        values["thresholds"] = to_json(manifest.thresholds)
    if manifest.unknown_below is not None:
        values["unknown_below"] = to_json(manifest.unknown_below)
    return values


class _Builder:
    """Appends operations to a graph; arguments that are not names become constants."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, operation: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = output or f"picture.{len(self.graph.nodes)}"
        self.graph.nodes.append(helper.make_node(operation, names, [output], output, **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add numbers as a constant, floats as float64."""
        name = f"picture.constant{len(self.graph.constants)}"
        self.graph.constants[name] = np.asarray(value)
        return name

    def double(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.DOUBLE)

    def single(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.FLOAT)

    def whole(self, value: str) -> str:
        return self("Cast", value, to=TensorProto.INT64)


def _prepare(do: _Builder, manifest: Manifest, images: str) -> None:
    """From `pictures` to the network's input `images`, as `runner/images` does it."""
    wanted = manifest.preparation
    shape = do("Shape", PICTURES)
    high, wide = (do("Gather", shape, np.int64(axis)) for axis in (1, 2))
    pixels = do("Transpose", do("Cast", PICTURES, to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    if wanted.channels == 1:
        shares = np.array([19595, 38470, 7471], np.float32)[None, :, None, None]
        grey = do("ReduceSum", do("Mul", pixels, shares), np.array([1]), keepdims=1)
        # Integers below 2^24 times a power of two: exact in float32.
        pixels = do("Floor", do("Div", do("Add", grey, np.float32(32768)), np.float32(65536)))
    box, size = _geometry(do, _whole(do, wide, high), manifest)
    pixels = _scaled(do, pixels, (wide, high), box, size)
    if wanted.resize == "pad":
        pixels = _padded(do, pixels, size, manifest)
    scales = np.array([1 / (255 * std) for std in manifest.std], np.float32)[:, None, None]
    shifts = [-mean / std for mean, std in zip(manifest.mean, manifest.std, strict=True)]
    shape = do("Concat", do("Slice", shape, np.array([0]), np.array([1])), np.array(manifest.input_shape), axis=0)
    values = do("Add", do("Mul", pixels, scales), np.array(shifts, np.float32)[:, None, None])
    # State the known size, so that engines need not infer it.
    do("Reshape", values, shape, output=images)


def _whole(do: _Builder, wide: str, high: str) -> list[str]:
    """The box (left, upper, width, height) of the picture, float64: `whole`, or without it all pixels."""
    left, upper, *sides = (do("Gather", WHOLE, np.int64(place)) for place in range(4))
    pixels = (do.double(wide), do.double(high))
    lengths = [do("Where", do("Greater", side, 0.0), side, all_) for side, all_ in zip(sides, pixels, strict=True)]
    return [left, upper, *lengths]


def _geometry(do: _Builder, box: list[str], manifest: Manifest) -> tuple[Sequence[str], Sequence[str]]:
    """The box (left, upper, width, height) of a picture that is used, float64, and its new (width, height), int64."""
    wanted = manifest.preparation
    (left, upper, wide, high), size = box, [do.constant(np.int64(side)) for side in (wanted.width, wanted.height)]
    match wanted.resize:
        case "crop":
            ratio = wanted.width / wanted.height
            taken = [
                do("Mul", do("Min", wide, do("Mul", high, ratio)), wanted.crop_ratio),
                do("Mul", do("Min", high, do("Div", wide, ratio)), wanted.crop_ratio),
            ]
            spare = [do("Mul", do("Sub", side, part), 0.5) for side, part in zip((wide, high), taken, strict=True)]
            places = [do("Add", begin, part) for begin, part in zip((left, upper), spare, strict=True)]
            # Pillow converts boxes to float32.
            ends = [do.single(do("Add", place, part)) for place, part in zip(places, taken, strict=True)]
            places = [do.single(place) for place in places]
            lengths = [do("Sub", end, place) for end, place in zip(ends, places, strict=True)]
            box = [do.double(value) for value in (*places, *lengths)]
        case "pad":
            scale = do("Min", do("Div", float(wanted.width), wide), do("Div", float(wanted.height), high))
            size = [do.whole(do("Max", do("Round", do("Mul", side, scale)), 1.0)) for side in (wide, high)]
    return box, size


def _scaled(do: _Builder, pixels: str, old: Sequence[str], box: Sequence[str], size: Sequence[str]) -> str:
    """Resize a box of float32 [N, C, height, width]: vertically first if its height shrinks, else last."""
    (wide, high), (left, upper, width, height), (columns, rows) = old, box, size
    first = do("Greater", height, do.double(rows))
    # Both orders are in the graph; the unused pass is an identity.
    between = do("Where", first, rows, high)
    nothing = do.constant(0.0)
    before = _weights(
        do, do("Where", first, upper, nothing), do("Where", first, height, do.double(high)), between, high
    )
    after = _weights(do, do("Where", first, nothing, upper), do("Where", first, do.double(rows), height), rows, between)
    across = [do("Transpose", part, perm=[1, 0]) for part in _weights(do, left, width, columns, wide)]
    pixels = _rounded(do, *(do("MatMul", part, pixels) for part in before))
    pixels = _rounded(do, *(do("MatMul", pixels, part) for part in across))
    return _rounded(do, *(do("MatMul", part, pixels) for part in after))


def _weights(do: _Builder, begin: str, length: str, count: str, size: str) -> tuple[str, str]:
    """Antialiased bilinear weights, [count, size]: of each old pixel of a side for each new one.

    They are whole multiples of 1 / `UNITS`, computed in Pillow's order of operations, and are returned as two matrices
    of whole numbers in float32: multiples of `COARSE` units, and what is left.
    """
    scale = do("Div", length, do.double(count))
    support = do("Max", scale, 1.0)
    new, old = (do.double(do("Range", np.int64(0), number, np.int64(1))) for number in (count, size))
    centres = do("Add", begin, do("Mul", do("Add", new, 0.5), scale))
    distances = do("Abs", do("Add", do("Sub", old, do("Unsqueeze", centres, np.array([1]))), 0.5))
    weights = do("Max", do("Sub", 1.0, do("Mul", distances, do("Div", 1.0, support))), 0.0)
    weights = do("Div", weights, do("ReduceSum", weights, np.array([1]), keepdims=1))
    weights = do("Floor", do("Add", do("Mul", weights, UNITS), 0.5))
    coarse = do("Floor", do("Div", weights, COARSE))
    return do.single(coarse), do.single(do("Sub", weights, do("Mul", coarse, COARSE)))


def _rounded(do: _Builder, coarse: str, fine: str) -> str:
    """Sums of levels times weights, of both parts of `_weights`, to levels; half a level is up, as Pillow rounds."""
    whole = do("Add", coarse, do("Floor", do("Div", fine, np.float32(COARSE))))
    return do("Floor", do("Div", do("Add", whole, np.float32(UNITS / COARSE / 2)), np.float32(UNITS / COARSE)))


def _padded(do: _Builder, pixels: str, size: Sequence[str], manifest: Manifest) -> str:
    """An image centred on the background colour at the wanted size."""
    wanted = manifest.preparation
    colour = np.array(wanted.background)
    if wanted.channels == 1:
        colour = (colour @ [19595, 38470, 7471] + 32768)[None] >> 16
    colour = colour.astype(np.float32)[:, None, None]
    begins, ends = [], []
    for side, whole in zip(reversed(size), wanted.size, strict=True):
        spare = do("Sub", np.int64(whole), side)
        begins.append(do("Div", spare, np.int64(2)))
        ends.append(do("Sub", spare, begins[-1]))
    nothing = do.constant(np.zeros(2, np.int64))
    places = [do("Unsqueeze", place, np.array([0])) for place in (*begins, *ends)]
    pads = do("Concat", nothing, *places[:2], nothing, *places[2:], axis=0)
    return do("Add", do("Pad", do("Sub", pixels, colour), pads, np.float32(0)), colour)


def _decide(do: _Builder, manifest: Manifest, logits: str) -> list[str]:
    """From the network's logits to the outputs; returns their names."""
    if manifest.labels == "many":
        do("Sigmoid", logits, output=PROBABILITIES)
        do("GreaterOrEqual", PROBABILITIES, np.array(manifest.thresholds, np.float32), output=LABELS)
        return [PROBABILITIES, LABELS]
    if manifest.temperature is not None:
        logits = do("Div", logits, np.float32(manifest.temperature))
    do("Softmax", logits, axis=1, output=PROBABILITIES)
    return [PROBABILITIES]
