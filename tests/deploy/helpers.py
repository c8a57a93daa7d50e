"""A tiny network, exported for real."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import paddle
import pytest
from onnx import TensorProto, helper, numpy_helper
from paddle import nn
from paddle.static import InputSpec

from runner.deploy import engines, manifest
from runner.deploy.manifest import ExportedFile, Manifest
from runner.files.digests import file_digest

SIZE, CLASSES = 16, ["ant", "bee", "cat", "dog"]
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
needs_openvino = pytest.mark.skipif(not engines.is_installed("openvino"), reason="needs OpenVINO")
#: The files of an export, whose names are given.
ONNX, PADDLE = "model.onnx", "paddle/model.json"
#: paddle2onnx can end its process, and without optimize_tool="None" it installs a package.
CONVERT = """
import sys, paddle2onnx
prefix = sys.argv[1]
paddle2onnx.export(f"{prefix}.json", f"{prefix}.pdiparams", f"{prefix}.onnx", opset_version=17, optimize_tool="None")
"""


def network() -> nn.Layer:
    """The same weights every time."""
    paddle.seed(0)
    layers = nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2), nn.BatchNorm2D(8), nn.ReLU(), nn.AdaptiveAvgPool2D(2), nn.Flatten(),
        nn.Linear(32, len(CLASSES)),
    )  # fmt: skip
    layers.eval()
    return layers


def logits(images: np.ndarray) -> np.ndarray:
    """What the network itself says."""
    with paddle.no_grad():
        return network()(paddle.to_tensor(images)).numpy()


def random_images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3, SIZE, SIZE), dtype=np.float32)


def picture(height: int, width: int) -> np.ndarray:
    """Noise, uint8 [height, width, 3]; the same every time."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def export(folder: Path) -> Path:
    """An export folder with the network as an ONNX and a Paddle file; the ONNX file is recommended."""
    shutil.copytree(_exported(), folder)
    return folder


def opened(folder: Path, file: ExportedFile, threads: int = 1) -> engines.Engine:
    """A file of an export folder in its engine."""
    return engines.open_(folder, manifest.read(folder), file, threads)


def changed(folder: Path, **values: Any) -> Path:
    """The folder, with other values in its manifest."""
    path = folder / manifest.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


def prepared_as(folder: Path, **preprocessing: Any) -> Path:
    """The folder, with other preprocessing and an ONNX file for it, whose logits are all the same."""
    described = replace(manifest.read(folder), **preprocessing)
    channels, *_ = described.input_shape
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", *described.input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(CLASSES)])
    weight = numpy_helper.from_array(np.zeros((channels, len(CLASSES)), np.float32), "weight")
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["largest"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["largest", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "blank", [images], [logits], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / ONNX)
    for file in described.files:
        file.digests = {part: file_digest(folder / part) for part in file.paths}
    manifest.write(folder, described)
    return folder


@functools.cache
def _exported() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="runner-test-export-"))
    atexit.register(shutil.rmtree, folder)
    prefix = folder / "paddle" / "model"
    paddle.jit.save(network(), str(prefix), input_spec=[InputSpec([None, 3, SIZE, SIZE], "float32", "images")])
    subprocess.run([sys.executable, "-c", CONVERT, str(prefix)], check=True, capture_output=True, timeout=60)
    prefix.with_suffix(".onnx").rename(folder / ONNX)
    floats = ExportedFile(ONNX, "onnx", "float32", (folder / ONNX).stat().st_size, "onnxruntime", 1.0, 0.0)
    program = ExportedFile(PADDLE, "paddle", "float32", prefix.with_suffix(".pdiparams").stat().st_size, "paddle")
    for file in (floats, program):
        file.digests = {part: file_digest(folder / part) for part in file.paths}
    described = Manifest(
        network="student", model="tiny", classes=CLASSES, image_size=[SIZE, SIZE], mean=MEAN, std=STD,
        compression="none", params=388, macs=10_712, files=[floats, program], recommended=ONNX,
    )  # fmt: skip
    manifest.write(folder, described)
    return folder
