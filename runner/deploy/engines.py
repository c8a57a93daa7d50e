"""The engines that run exported files: onnxruntime, OpenVINO, and Paddle Inference with oneDNN."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import CheckpointError, ConfigError, telling_line
from .manifest import ONNXRUNTIME, OPENVINO, PADDLE, ExportedFile

#: Engine → how to install it.
INSTALL = {
    ONNXRUNTIME: "pip install 'onnxruntime>=1.17'",
    OPENVINO: "pip install 'openvino>=2025.0'",
    PADDLE: "pip install 'paddlepaddle>=3.1,<4'",
}
AGAIN = "Write it again: python -m runner export RUN"


class Engine(Protocol):
    """An exported network, loaded in an engine."""

    name: str
    """The engine with its version."""
    threads: int
    """CPU threads of one call."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        ...


def is_installed(engine: str) -> bool:
    """Whether an engine can be imported here."""
    return importlib.util.find_spec(engine) is not None


def open_(folder: Path, file: ExportedFile, threads: int = 1) -> Engine:
    """A file of an export folder in its engine.

    Errors: ConfigError if the engine is not installed or the format has none, CheckpointError if the file is missing or
    damaged.
    """
    path = folder / file.path
    # Paddle 3.3.1 silently opens a program without its parameters.
    for part in file.paths:
        if not (folder / part).is_file():
            raise CheckpointError(f"{folder / part} is missing. {AGAIN}")
    match file.engine:
        case "onnxruntime":
            kind: Any = OnnxRuntime
        case "openvino":
            kind = OpenVino
        case "paddle":
            kind = PaddleInference
        case _:
            raise ConfigError(f"{path}: no engine runs {file.format}. Export another: deploy.formats=[onnx]")
    try:
        return kind(path, threads)
    except ImportError as error:
        remedy = INSTALL[file.engine]
        if file.engine == OPENVINO:
            remedy += f". Or name the engine that reads the same file: --engine {ONNXRUNTIME}"
        raise ConfigError(f"{path} needs {file.engine}, which is not installed: {remedy}") from error
    except Exception as error:
        # The engines' errors have no base class but Exception.
        raise CheckpointError(f"{path} cannot be opened: {telling_line(error).rstrip('.')}. {AGAIN}") from error


class OnnxRuntime:
    """An ONNX file on the CPU, with all graph optimizations."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # At lower levels it logs folded constants.
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.name, self.threads = f"onnxruntime {onnxruntime.__version__}", threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        return self.session.run(None, {self.input: images})[0]


@contextlib.contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Restore this thread's alternate signal stack at the end (sigaltstack(2)).

    OpenVINO 2026.4 sets its own when it compiles a network, and unmaps it together with its `Core`: if two of these
    were alive at once, the next signal, such as Ctrl-C, ends the process with a segmentation fault.
    """
    libc, before = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.sigaltstack(None, before)
    try:
        yield
    finally:
        libc.sigaltstack(before, None)


class OpenVino:
    """An ONNX file on the CPU in the file's own precision: never in the bfloat16 that some CPUs would choose.

    Networks with a fixed batch size take 0.3 to 0.8 times as long as dynamic ones (OpenVINO 2026.4, MobileNetV3), but
    compiling one takes a second or more: only the first batch sizes that are used twice get one.
    """

    #: Most batch sizes that are compiled.
    SIZES = 4

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        self.core, self.path = openvino.Core(), path
        self.settings = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            # The threads of the other engines, which are measured in turns with it, are not pinned either.
            "ENABLE_CPU_PINNING": False,
        }
        self.requests: dict[int, Any] = {}
        self.calls: Counter[int] = Counter()
        self.of_any_size = self._compiled(self.core.read_model(path))
        self.lock = threading.Lock()
        self.name, self.threads = f"OpenVINO {openvino.__version__.partition('-')[0]}", threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        # A single stream, so calls from several threads would be serialised anyway.
        with self.lock:
            return self._request(images.shape).infer([images], share_inputs=True)[0]

    def _compiled(self, model: Any) -> Any:
        with _signal_stack_kept():
            return self.core.compile_model(model, "CPU", self.settings).create_infer_request()

    def _request(self, shape: tuple[int, ...]) -> Any:
        """The inference request for a batch of this shape."""
        size = shape[0]
        self.calls[size] += 1
        if size not in self.requests and self.calls[size] > 1 and len(self.requests) < self.SIZES:
            model = self.core.read_model(self.path)
            model.reshape(list(shape))
            self.requests[size] = self._compiled(model)
        return self.requests.get(size, self.of_any_size)


class PaddleInference:
    """A Paddle program (`.json` of Paddle 3 or `.pdmodel`) on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import paddle
            from paddle import inference

        config = inference.Config(str(path), str(path.with_suffix(".pdiparams")))
        config.disable_gpu()
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(threads)
        # Without oneDNN a call takes 2 to 12 times as long. Paddle 3.3.1 enables it by default for a `.json`.
        # FLAGS_enable_pir_api=0, enable_new_ir, enable_new_executor and the passes of the IR make no difference then,
        # and enable_memory_optim without enable_new_executor fails ("Not find predictor_id").
        config.enable_mkldnn()
        self.predictor = inference.create_predictor(config)
        self.input = self.predictor.get_input_handle(self.predictor.get_input_names()[0])
        self.output = self.predictor.get_output_handle(self.predictor.get_output_names()[0])
        self.lock = threading.Lock()
        onednn = " oneDNN" if config.mkldnn_enabled() else ""
        self.name, self.threads = f"Paddle Inference {paddle.__version__}{onednn}", threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        # A predictor has one input and one output, shared by all threads.
        with self.lock:
            self.input.copy_from_cpu(np.ascontiguousarray(images))
            self.predictor.run()
            return self.output.copy_to_cpu()
