"""How long one image takes in a network that nobody trained yet."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .. import config as cfg
from .. import models
from ..errors import ConfigError, ExportError
from . import to_onnx
from .engines import OnnxRuntime

CLASSES, WARM_UP = 1000, 2


def of_model(model: cfg.Model, input_shape: tuple[int, int, int], seconds: float, threads: int) -> float:
    """Median milliseconds of one image [C, H, W] in onnxruntime, in a float file as an export writes it.

    Weights are random: time does not depend on them. Errors: ConfigError where the network cannot be had or exported.
    """
    network = models.build(model, CLASSES, input_shape[0])
    models.check_input(network, input_shape, CLASSES)
    network.eval()
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            to_onnx.trace(network, input_shape, Path(folder) / "floats")
            to_onnx.convert(Path(folder) / "floats", file, folded=True)
        except ExportError as error:
            raise ConfigError(str(error)) from error
        engine = OnnxRuntime(file, threads)
    image = np.zeros((1, *input_shape), dtype=np.float32)
    for _ in range(WARM_UP):
        engine(image)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        begin = time.perf_counter()
        engine(image)
        taken.append(time.perf_counter() - begin)
    return 1000 * float(np.median(taken))
