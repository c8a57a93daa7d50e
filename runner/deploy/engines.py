"""The engines that run exported files: onnxruntime, OpenVINO, and Paddle Inference with oneDNN."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .. import stored
from ..errors import CheckpointError, ConfigError, Damaged, telling_line
from ..files.digests import stream_digest
from ..terminal import counted
from .manifest import MANIFEST, ONNXRUNTIME, OPENVINO, PADDLE, ExportedFile, Manifest

#: Engine → how to install it.
INSTALL = {
    ONNXRUNTIME: "pip install 'onnxruntime>=1.17'",
    OPENVINO: "pip install 'openvino>=2025.0'",
    PADDLE: "pip install 'paddlepaddle>=3.1,<4'",
}
AGAIN = "Write it again: python -m runner export RUN"


@dataclass
class Declared:
    """What a file says of itself, where it does."""

    input_shape: Sequence[int] = ()
    """[C, H, W] of its images, -1 for one of any size; () if unknown."""
    outputs: int = -1
    """Number of its logits; -1 if unknown."""
    classes: str | None = None
    """JSON list of the names of its classes."""


class Engine(Protocol):
    """An exported network, loaded in an engine."""

    name: str
    """The engine with its version."""
    threads: int
    """CPU threads of one call."""
    declared: Declared
    """What the file says of itself."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        ...


def is_installed(engine: str) -> bool:
    """Whether an engine can be imported here."""
    return importlib.util.find_spec(engine) is not None


def open_(folder: Path, described: Manifest, file: ExportedFile, threads: int = 1) -> Engine:
    """A file of an export folder in its engine, compared with what the folder's manifest says of it.

    Errors: ConfigError if the engine is not installed or the format has none, CheckpointError if the file is missing,
    damaged, or of another export.
    """
    _check_digests(folder, file)
    engine = _opened(folder / file.path, file, threads)
    _check_declared(engine.declared, described, folder / file.path)
    return engine


def _check_digests(folder: Path, file: ExportedFile) -> None:
    """Errors: CheckpointError for a missing file, Damaged for one that is not as it was written."""
    # Paddle 3.3.1 silently opens a program without its parameters.
    for path in file.paths:
        with stored.opened(folder / path, AGAIN) as stream:
            if stream is None:
                raise CheckpointError(f"{folder / path} is missing. {AGAIN}")
            # Exports of earlier versions have no digests.
            if file.digests and stream_digest(stream) != file.digests[path]:
                raise Damaged(f"{folder / path} is damaged: it is not the file that was exported. {AGAIN}")


def _opened(path: Path, file: ExportedFile, threads: int) -> Engine:
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


def _check_declared(declared: Declared, described: Manifest, path: Path) -> None:
    """Errors: Damaged for a file that is not of the manifest next to it."""
    shape, outputs, wanted = list(declared.input_shape), declared.outputs, described.input_shape
    problem = None
    if shape and (len(shape) != 3 or any(own not in (-1, other) for own, other in zip(shape, wanted, strict=True))):
        problem = f"it takes images [C, H, W] of {shape} and not of {list(wanted)}"
    elif outputs not in (-1, len(described.classes)):
        problem = f"it has {counted(outputs, 'class', 'classes')} and not {len(described.classes)}"
    elif declared.classes is not None and _parsed(declared.classes) != described.classes:
        problem = "its classes have other names"
    if problem:
        raise Damaged(f"{path} is not the network of the {MANIFEST} that describes it: {problem}. {AGAIN}")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


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
        [images], logits = self.session.get_inputs(), self.session.get_outputs()[0]
        self.input = images.name
        self.declared = Declared(
            _sizes(images.shape)[1:],
            _sizes(logits.shape)[-1],
            self.session.get_modelmeta().custom_metadata_map.get("classes"),
        )
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
    compiling one takes a second or more: only the first batch sizes that are used twice get one. Networks that resize
    maps (HRNet) stay dynamic, since compiling another one for a fixed size may end the process (SIGSEGV, 2026.4).
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
        model = self.core.read_model(path)
        self.declared = self._declared(model)
        self.of_any_size = self._compiled(model)
        self.resizes = any(operation.get_type_name() == "Interpolate" for operation in model.get_ops())
        self.lock = threading.Lock()
        self.name, self.threads = f"OpenVINO {openvino.__version__.partition('-')[0]}", threads

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """float32 [N, 3, S, S] to float32 [N, classes]."""
        # A single stream, so calls from several threads would be serialised anyway.
        with self.lock:
            return self._request(images.shape).infer([images], share_inputs=True)[0]

    @staticmethod
    def _declared(model: Any) -> Declared:
        images, logits = (
            [side.get_length() if side.is_static else -1 for side in end.partial_shape]
            for end in (model.inputs[0], model.outputs[0])
        )
        path = ["framework", "classes"]
        classes = str(model.get_rt_info(path).value) if model.has_rt_info(path) else None
        return Declared(images[1:], logits[-1], classes)

    def _compiled(self, model: Any) -> Any:
        with _signal_stack_kept():
            return self.core.compile_model(model, "CPU", self.settings).create_infer_request()

    def _request(self, shape: tuple[int, ...]) -> Any:
        """The inference request for a batch of this shape."""
        size = shape[0]
        self.calls[size] += 1
        is_wanted = size not in self.requests and self.calls[size] > 1 and not self.resizes
        if is_wanted and len(self.requests) < self.SIZES:
            model = self.core.read_model(self.path)
            model.reshape(list(shape))
            self.requests[size] = self._compiled(model)
        return self.requests.get(size, self.of_any_size)


def _sizes(shape: Sequence[Any]) -> list[int]:
    """A shape of onnxruntime, with -1 for sizes that have a name or none."""
    return [side if isinstance(side, int) else -1 for side in shape]


class PaddleInference:
    """A Paddle program (`.json` of Paddle 3 or `.pdmodel`) on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import paddle
            from paddle import inference

        self.declared = _of_program(path)
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


def _of_program(path: Path) -> Declared:
    """What a program (`.json` of Paddle 3) says of its ends, which the predictor does not tell."""
    shapes: dict[str, list[int]] = {}
    with contextlib.suppress(ValueError, LookupError, TypeError):
        for operation in json.loads(path.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]:
            if operation["#"] in ("1.data", "1.fetch"):
                shapes[operation["#"]] = operation["O"][0]["TT"]["D"][1]
        return Declared(shapes["1.data"][1:], shapes["1.fetch"][-1])
    return Declared()
