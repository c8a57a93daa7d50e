"""Latency of trained or untrained networks, for pruning budgets and `runner models`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from paddle import nn

from .. import config as cfg
from .. import models
from ..errors import ConfigError, ExportError
from ..models.input_check import preserved
from . import convertible, to_onnx
from .bench import TURNS, Measurement
from .engines import Engine, OnnxRuntime

CLASSES = 1000


def of_model(model: cfg.Model, input_shape: tuple[int, int, int], seconds: float, threads: int) -> float:
    """Median milliseconds of one image [C, H, W] in onnxruntime, in a float file as an export writes it.

    Weights are random, since time does not depend on them. Errors: ConfigError if the network cannot be built or
    exported.
    """
    network = models.build(model, CLASSES, input_shape[0])
    models.check_input(network, input_shape, CLASSES)
    network.eval()
    return medians([engine(network, input_shape, threads)], input_shape, seconds)[0]


def engine(network: nn.Layer, input_shape: tuple[int, int, int], threads: int) -> OnnxRuntime:
    """A network as a float file in onnxruntime; the network itself is unchanged.

    Errors: ConfigError if it cannot be exported.
    """
    with TemporaryDirectory() as folder, preserved(network), convertible.substituted(network):
        network.eval()
        file = Path(folder) / "model.onnx"
        try:
            to_onnx.trace(network, input_shape, Path(folder) / "floats")
            to_onnx.convert(Path(folder) / "floats", file, folded=True)
        except ExportError as error:
            raise ConfigError(str(error)) from error
        return OnnxRuntime(file, threads)


def medians(engines: Sequence[Engine], input_shape: tuple[int, int, int], seconds: float) -> list[float]:
    """Median milliseconds of one image [C, H, W] in each engine, measured in turns for `seconds` each."""
    image = np.zeros((1, *input_shape), dtype=np.float32)
    measurements = [Measurement(one, image) for one in engines]
    for measurement in measurements:
        measurement.warm_up()
    for _ in range(TURNS):
        for measurement in measurements:
            measurement.turn(seconds / TURNS)
    return [1000 * float(np.median(measurement.seconds)) for measurement in measurements]
