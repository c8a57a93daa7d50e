"""Whether an engine computes zeros among the weights faster: `python -m benchmarks.sparsity EXPORT [--batch N]`.

EXPORT is the folder of an export. Of every convolution and matrix product the smallest weights become zero, two of each
four (2:4) or nine tenths, and the files are measured in turns with the dense one, on one thread: onnxruntime, and where
it is installed OpenVINO, also with its option for sparse weights of integers. The shapes are the same, so that a gain
can only come from the engine; what the networks answer is not looked at.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from runner.deploy import engines, manifest

from . import harness

#: Part of the weights that is zero, and of how many in a row; None: of all of a layer.
SPARSE = {"dense": (0.0, None), "2:4": (0.5, 4), "90 %": (0.9, None)}
WEIGHTED = ("Conv", "Gemm", "MatMul")
#: Turns, and seconds of each.
TURNS, SECONDS = 10, 0.3
Call = Callable[[np.ndarray], object]


def zeroed(weights: np.ndarray, part: float, row: int | None) -> np.ndarray:
    """The weights with this part of the smallest magnitudes set to 0, in every `row` values one after another."""
    flat = weights.reshape(-1, row or weights.size) if weights.size % (row or 1) == 0 else weights.reshape(1, -1)
    order = np.argsort(abs(flat.astype(np.float32)), axis=1, kind="stable")
    result = flat.copy()
    np.put_along_axis(result, order[:, : int(part * flat.shape[1])], 0, axis=1)
    return result.reshape(weights.shape)


def write(source: Path, to: Path, part: float, row: int | None) -> None:
    """An ONNX file with zeros in its weights, of float or of integers."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    made = {output: node for node in model.graph.node for output in node.output}
    names = set()
    for node in model.graph.node:
        if node.op_type in WEIGHTED:
            name = node.input[1]
            names.add(made[name].input[0] if name in made else name)
    for tensor in model.graph.initializer:
        if tensor.name in names:
            # Neighbours are those of one filter.
            tensor.CopyFrom(numpy_helper.from_array(zeroed(numpy_helper.to_array(tensor), part, row), tensor.name))
    onnx.save(model, to)


def opened(path: Path, engine: str) -> Call:
    """A file in an engine, on one thread."""
    if engine == "onnxruntime":
        return engines.OnnxRuntime(path, 1)
    if engine == "OpenVINO":
        return engines.OpenVino(path, 1)
    import openvino

    # As `engines.OpenVino` has it, and the option.
    options = {
        "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32",
        "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": 0.5,
    }  # fmt: skip
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda images: compiled([images])


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    options = parser.parse_args()
    described = manifest.read(options.export)
    names = ["onnxruntime", *(["OpenVINO", "OpenVINO, sparse"] if engines.is_installed(manifest.OPENVINO) else [])]
    images = np.random.default_rng(0).standard_normal((options.batch, *described.input_shape), dtype=np.float32)
    rows = []
    with TemporaryDirectory() as folder:
        for file in dict.fromkeys(file.path for file in described.runnable if file.path.endswith(".onnx")):
            paths = {kind: Path(folder) / f"{number}-{file}" for number, kind in enumerate(SPARSE)}
            for kind, path in paths.items():
                write(options.export / file, path, *SPARSE[kind])
            for engine in names:
                calls = {kind: opened(path, engine) for kind, path in paths.items()}
                times = in_turns(calls, images)
                cells = (f"{ms:.3f} ms, {times['dense'] / ms:.2f} ×" for ms in times.values())
                rows.append([file, engine, *cells])
    harness.print_table(["file", "engine", *SPARSE], rows)
    return 0


def in_turns(calls: dict[str, Call], images: np.ndarray) -> dict[str, float]:
    """Milliseconds of a call of each, while nothing else computes: the first tenth of them."""
    seconds: dict[str, list[float]] = {kind: [] for kind in calls}
    for call in calls.values():
        for _ in range(3):
            call(images)
    for _ in range(TURNS):
        for kind, call in calls.items():
            end = time.perf_counter() + SECONDS
            while (begin := time.perf_counter()) < end:
                call(images)
                seconds[kind].append(time.perf_counter() - begin)
    return {kind: 1000 * float(np.quantile(each, 0.1)) for kind, each in seconds.items()}


if __name__ == "__main__":
    sys.exit(main())
