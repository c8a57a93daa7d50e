"""Where the time of exported ONNX files goes, by kind of operation: `python -m benchmarks.layers EXPORT [--batch N]`.

EXPORT is the folder of an export. Each file is computed by onnxruntime and, where it is installed, OpenVINO, on one
thread with the engine's own profiler, which itself costs about a microsecond an operation.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from runner.deploy import engines, manifest

#: Calls that are profiled; of each operation the first fifth of its times counts, as a busy machine hits some.
CALLS, PART = 100, 20
Times = dict[tuple[str, str], list[float]]
"""(kind, name) of an operation → microseconds of each call."""


def main() -> int:
    """Profile and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path, metavar="EXPORT")
    parser.add_argument("--batch", type=int, default=1, metavar="N")
    options = parser.parse_args()
    described = manifest.read(options.export)
    images = np.random.default_rng(0).standard_normal((options.batch, *described.input_shape), dtype=np.float32)
    for file in described.runnable:
        if file.engine == manifest.ONNXRUNTIME:
            show(file.path, "onnxruntime", onnxruntime_times(options.export / file.path, images))
        elif file.engine == manifest.OPENVINO and engines.is_installed(file.engine):
            show(file.path, "OpenVINO", openvino_times(options.export / file.path, images))
    return 0


def onnxruntime_times(path: Path, images: np.ndarray) -> Times:
    """Of a file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level, options.enable_profiling = 1, 3, True
    times: Times = collections.defaultdict(list)
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(CALLS):
            session.run(None, {session.get_inputs()[0].name: images})
        for event in json.loads(Path(session.end_profiling()).read_text()):
            if event["name"].endswith("_kernel_time"):
                times[event["args"]["op_name"], event["name"]].append(event["dur"])
    return times


def openvino_times(path: Path, images: np.ndarray) -> Times:
    """Of a file in OpenVINO."""
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(images.shape))
    settings = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    times: Times = collections.defaultdict(list)
    for _ in range(CALLS):
        request.infer([images])
        for layer in request.profiling_info:
            if str(layer.status).endswith(".EXECUTED"):
                kind = f"{layer.node_type} {layer.exec_type}"
                times[kind, layer.node_name].append(layer.real_time.total_seconds() * 1e6)
    return times


def show(path: str, engine: str, times: Times) -> None:
    """Print a line for each kind of operation, the longest first."""
    micros: dict[str, list[float]] = collections.defaultdict(list)
    for (kind, _), measured in times.items():
        micros[kind].append(float(np.percentile(measured, PART)))
    print(f"\n{path} in {engine}: {sum(map(sum, micros.values())):.0f} µs")
    for kind, each in sorted(micros.items(), key=lambda item: -sum(item[1])):
        print(f"  {sum(each):8.0f} µs  {len(each):4} × {kind}")


if __name__ == "__main__":
    sys.exit(main())
