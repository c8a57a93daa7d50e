"""Reads the weights in `.onnx` files by the names of their initialisers; nothing in a file is computed."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import stored

if TYPE_CHECKING:
    import onnx

#: Names that an exporter made up: Paddle's numbers of layers, and PyTorch's of folded or transposed tensors.
MADE_UP = re.compile(r"\w+_\d+\.[wb]_\d+|onnx::\w+|p2o\..+")

#: Largest file that ONNX knows without data outside of it.
MAX_BYTES = 2**31 - 1


def load(path: Path) -> tuple[dict[str, np.ndarray], bool | None]:
    """Name → array of each initialiser, of the memory of the file; and the layout as in `_by_torch`.

    Data outside of the file is not read. Errors: ValueError for a file that is not ONNX's, has its weights elsewhere,
    or has none under names of layers, as those that this package exports; OSError.
    """
    import onnx
    from google.protobuf.message import DecodeError

    with stored.open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_size > MAX_BYTES:
            raise ValueError("it is larger than a file of ONNX may be, or damaged")
        content = stream.read(MAX_BYTES)
    try:
        graph = onnx.load_model_from_string(content).graph
    except DecodeError as error:
        raise ValueError("it is damaged or not a file of ONNX") from error
    arrays = {}
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError(f"its tensor {tensor.name} is in another file. Save it as one file, or give a state dict")
        if not MADE_UP.fullmatch(tensor.name):
            arrays[tensor.name] = onnx.numpy_helper.to_array(tensor)
    if not any(array.ndim > 1 and array.dtype.kind == "f" for array in arrays.values()):
        raise ValueError(
            "its weights have no names of layers, since its exporter has folded and numbered them. Give what it was "
            "exported from: the run, its file of deploy.formats=[safetensors], or a state dict"
        )
    return arrays, _by_torch(graph, arrays)


def _by_torch(graph: onnx.GraphProto, names: Collection[str]) -> bool | None:
    """Whether the products with these initialisers have them as [outputs, inputs]; None if some do and some do not."""
    layouts = {
        node.op_type == "Gemm" and any(one.name == "transB" and one.i == 1 for one in node.attribute)
        for node in graph.node
        if node.op_type in ("Gemm", "MatMul") and node.input[1] in names
    }
    return layouts.pop() if len(layouts) == 1 else None
