"""Converting a network to ONNX files, in float and int8. The tools are imported when they are needed."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import child, files
from ..errors import ExportError, telling_line
from .graph.quantized_weight import QuantizedWeight

if TYPE_CHECKING:
    from onnx import ModelProto
    from paddle import nn

    from .manifest import Manifest

INPUT, OUTPUT, BATCH = "images", "logits", "N"


def trace(network: nn.Layer, input_shape: tuple[int, int, int], prefix: Path) -> None:
    """Write a network in eval mode as `<prefix>.json` and `<prefix>.pdiparams`, for batches of images [C, H, W].

    Errors: ExportError if Paddle cannot trace it; OSError for a full disk, which Paddle does not notice.
    """
    import paddle

    spec = [paddle.static.InputSpec([None, *input_shape], "float32", "images")]
    try:
        paddle.jit.save(network, str(prefix), input_spec=spec)
    except Exception as error:
        raise ExportError(
            f"Paddle cannot trace {type(network).__name__} for batches of any size: {telling_line(error)} "
            "Use deploy.formats=[safetensors], which needs no trace, or [] for no files."
        ) from error
    try:
        json.loads(prefix.with_name(f"{prefix.name}.json").read_bytes())
    except ValueError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(prefix.parent)) from error


def convert(prefix: Path, target: Path, folded: bool = False) -> None:
    """Write `<prefix>.json` and `<prefix>.pdiparams` (`paddle.jit.save`) as an ONNX file of opset 17.

    Its input is `images` float32 [N, 3, S, S], its output `logits` float32 [N, K]; weights have the names of Paddle's
    parameters, unless it is `folded`. Errors: ExportError with paddle2onnx's reason.
    """
    with files.partial_file(target) as partial:
        # In a child process: paddle2onnx ends its process for a network it does not support, and needs several times
        # the weights' memory, as folding does.
        arguments = [f"{prefix}.json", f"{prefix}.pdiparams", str(partial), "folded" if folded else ""]
        command = child.command("runner.deploy.convert", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode or not partial.is_file():
            reason = _reason(f"{done.stdout}\n{done.stderr}")
            raise ExportError(f"paddle2onnx cannot convert the network (exit code {done.returncode}): {reason}")


def fold_file(source: Path, target: Path) -> None:
    """Simplify a float file without changing what it computes (`folding`). Errors: ExportError."""
    import onnx

    from .graph.folding import fold

    _write(fold(onnx.load(source)), target)


def halve_file(source: Path, target: Path) -> None:
    """Convert a float file to half precision (`half`). Errors: ExportError."""
    import onnx

    from .graph.half import halved

    _write(halved(onnx.load(source)), target)


def quantize_file(source: Path, target: Path, layers: list[QuantizedWeight], images: np.ndarray) -> None:
    """Quantize a float file to int8 (`int8`). Errors: ExportError."""
    import onnx

    from .graph.int8 import quantize

    _write(quantize(onnx.load(source), layers, images), target)


def add_pictures(source: Path, target: Path, manifest: Manifest) -> None:
    """Add preprocessing to a file, so that it takes images of any size (`pictures`). Errors: ExportError."""
    import onnx

    from .graph.pictures import with_pictures

    _write(with_pictures(onnx.load(source), manifest), target)


def name_ends(file: Path) -> None:
    """Name the input, the output and the batch dimension. Errors: ExportError."""
    import onnx

    model = onnx.load(file)
    graph = model.graph
    if len(graph.input) != 1 or len(graph.output) != 1:
        raise ExportError(
            f"The network has {len(graph.input)} inputs and {len(graph.output)} outputs, not one of each."
        )
    names = {graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value, name in ((graph.input[0], INPUT), (graph.output[0], OUTPUT)):
        value.name = name
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]
    _write(model, file)


#: ONNX operation → its attribute or the place of its input that paddle2onnx 2.1 leaves uninitialised, and the
#: operations of Paddle's program that become it, with the attribute that they have it in.
CORRECTED: dict[str, tuple[str | int, dict[str, str]]] = {
    "LeakyRelu": ("alpha", {"leaky_relu": "negative_slope"}),
    "InstanceNormalization": ("epsilon", {"group_norm": "epsilon", "instance_norm": "epsilon"}),
    "Pad": (2, {"pad3d": "pad_value", "pad": "pad_value"}),
}


def with_single_scales(program: Any) -> Any:
    """Paddle's program as JSON, with the scales of interpolations in float32: paddle2onnx refuses their float64."""
    if isinstance(program, list):
        return [with_single_scales(part) for part in program]
    if not isinstance(program, dict):
        return program
    if str(program.get("#", "")).endswith("_interp"):
        single = json.dumps(program["A"]).replace('"0.a_f64"', '"0.a_f32"')
        return program | {"A": json.loads(single)}
    return {name: with_single_scales(part) for name, part in program.items()}


def correct_attributes(file: Path, program: Any) -> None:
    """Give operations of a file the numbers that they have in Paddle's program as JSON (`CORRECTED`).

    Errors: ExportError where other operations became the same one, so that they cannot be told apart.
    """
    import onnx

    model = onnx.load(file)
    constants = []
    for kind, (place, sources) in CORRECTED.items():
        nodes = [node for node in model.graph.node if node.op_type == kind]
        values = list(_attributes(program, sources))
        if not values:
            continue
        if len(nodes) != len(values):
            raise ExportError(
                f"paddle2onnx made {len(nodes)} operations {kind} of {len(values)} ({', '.join(sources)}), whose "
                "numbers it does not convert. Export to another format: deploy.formats=[paddle]"
            )
        for node, value in zip(nodes, values, strict=True):
            if isinstance(place, int):
                # A constant of its own: that of the file may have other readers.
                name = f"{node.output[0]}.{place}"
                constants.append(onnx.helper.make_tensor(name, onnx.TensorProto.FLOAT, [], [value]))
                node.input[place] = name
            else:
                kept = [attribute for attribute in node.attribute if attribute.name != place]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute(place, float(value))])
    model.graph.initializer.extend(constants)
    _write(model, file)


def _attributes(program: Any, sources: dict[str, str]) -> Iterator[float]:
    """The attributes of all operations of some kinds in a program as JSON, in their order: kind → its attribute."""
    if isinstance(program, dict) and (wanted := sources.get(str(program.get("#", "")).rpartition(".")[2])):
        yield from (one["AT"]["D"] for one in program["A"] if one["N"] == wanted)
    elif isinstance(program, (dict, list)):
        for part in program.values() if isinstance(program, dict) else program:
            yield from _attributes(part, sources)


def describe(file: Path, values: dict[str, Any]) -> None:
    """Add values to a file's metadata, each as JSON."""
    from onnx import ModelProto, helper

    metadata = ModelProto()
    helper.set_model_props(metadata, {name: files.to_json(value) for name, value in values.items()})
    # Concatenated protobuf messages merge, so the network itself need not be read.
    with file.open("ab") as stream:
        stream.write(metadata.SerializeToString())


def _reason(output: str) -> str:
    """paddle2onnx's own last error in its output, else that of Python or C++; never a warning."""
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).strip() for line in output.splitlines()]
    lines = [line for line in lines if "warn" not in line.lower()]
    for pattern in (
        r"\[ERROR\](?:\[Paddle2ONNX\])?\s*(.+)",
        r"([\w.]*(?:Error|Exception)\b.*|what\(\):.*|.*not support.*)",
    ):
        if reasons := [match[1] for line in lines if (match := re.match(pattern, line))]:
            return reasons[-1]
    return "it ended without a reason"


def _write(model: ModelProto, target: Path) -> None:
    import onnx

    onnx.checker.check_model(model, full_check=True)
    with files.partial_file(target) as partial:
        partial.write_bytes(model.SerializeToString())
