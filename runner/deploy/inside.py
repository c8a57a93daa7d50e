"""The file that prepares pictures itself (`deploy.preprocess=inside`), and what it answers compared with `predict`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ExportError
from . import to_onnx
from .manifest import Manifest
from .predict import Deployed

FILE = "model.pictures.onnx"
#: Heights and widths of the pictures that it is tried with, relative to those of the network's images.
SIZES = ((1, 1), (2.1, 3.3), (0.4, 0.7), (1.6, 0.5), (3, 3), (0.9, 4), (0.15, 0.1))
#: Levels of flat colours.
FLAT = np.array([0, 51, 102, 128, 153, 204, 255], np.uint8)
#: Most levels of 256 that a pixel may be off, where a processor rounds otherwise; and most difference of a probability,
#: as a part of the largest one, from those of the network for the same input.
LEVELS, TOLERANCE = 1.01, 1e-3


def write(folder: Path, manifest: Manifest, network: str) -> str:
    """Write it beside the network of the export folder whose preprocessing it contains. Returns a note.

    Errors: ExportError if it prepares pictures otherwise than `predict` does, or makes other probabilities of them.
    """
    to_onnx.add_pictures(folder / network, folder / FILE, manifest)
    outside, inside = Deployed(folder, network), _with_prepared_input(folder / FILE)
    scales = 255 * np.array(manifest.std, np.float32)[:, None, None]
    pictures = list(_random_pictures(manifest.image_size))
    levels, differences = list[float](), list[float]()
    for picture in pictures:
        prepared, probabilities = inside(picture)
        levels.append(float(np.abs((prepared[0] - outside.prepare(picture)) * scales).max()))
        expected = outside.compute(prepared)
        differences.append(float(np.abs(probabilities - expected).max() / expected.max()))
    # Not a number is not within any bounds.
    if not all(level <= LEVELS for level in levels):
        raise ExportError(f"pictures are prepared otherwise than for {network}: off by {max(levels):.3g} of 256 levels")
    if not all(difference <= TOLERANCE for difference in differences):
        raise ExportError(f"its probabilities differ from those of {network} by {max(differences):.2g} of the largest")
    return (
        f"{FILE} prepares pictures for {network}: the values of {len(pictures)} random pictures, smooth ones and ones "
        f"with hard edges, are off by at most {round(max(levels), 2):g} of 256 levels"
    )


def _with_prepared_input(file: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The file as a function: uint8 [height, width, 3] to its network's input, and to its probabilities."""
    import onnx
    import onnxruntime

    from .graph.pictures import PICTURES, PROBABILITIES

    model = onnx.load(file)
    model.graph.output.append(onnx.helper.make_tensor_value_info(to_onnx.INPUT, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run([to_onnx.INPUT, PROBABILITIES], {PICTURES: picture[None]})


def _random_pictures(size: Sequence[int]) -> Iterator[np.ndarray]:
    """uint8 [height, width, 3] of several sizes, each once smooth and once flat with hard edges.

    Sums of flat colours are often half a level, where another way of rounding shows.
    """
    generator = np.random.default_rng(0)
    for factors in SIZES:
        height, width = (max(1, round(factor * side)) for factor, side in zip(factors, size, strict=True))
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        yield np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
        flat = Image.fromarray(generator.choice(FLAT, (7, 5, 3)))
        yield np.asarray(flat.resize((width, height), Image.Resampling.NEAREST))
