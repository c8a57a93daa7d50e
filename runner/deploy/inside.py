"""The file that prepares pictures itself (`deploy.preprocess=inside`), and what it answers compared with `predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ExportError
from . import engines, to_onnx
from .manifest import Manifest
from .predict import Deployed

FILE = "model.pictures.onnx"
#: Heights and widths of the pictures that it is tried with, relative to those of the network's images.
SIZES = ((1, 1), (2.1, 3.3), (0.4, 0.7), (1.6, 0.5), (3, 3), (0.9, 4))
#: Difference of a probability that no rounding explains: in integers, one level of a pixel moves it by some hundredths.
TOLERANCE = 0.1


def write(folder: Path, manifest: Manifest, network: str) -> str:
    """Write it beside the network of the export folder whose preprocessing it contains. Returns a note.

    Errors: ExportError if it answers otherwise than the network does for pictures that are prepared outside.
    """
    to_onnx.add_pictures(folder / network, folder / FILE, manifest)
    outside, inside = Deployed(folder, network), engines.OnnxRuntime(folder / FILE, 1)
    pictures = list(_random_pictures(manifest.image_size))
    difference = float(np.max([np.abs(inside(one[None]) - outside([one])).max() for one in pictures]))
    if not difference <= TOLERANCE:
        raise ExportError(f"its probabilities differ by {difference:.2g} from those of {network}")
    return (
        f"{FILE} prepares pictures for {network}: probabilities of {len(pictures)} random pictures of several sizes "
        f"differ by at most {difference:.2g}"
    )


def _random_pictures(size: Sequence[int]) -> Iterator[np.ndarray]:
    """uint8 [height, width, 3], smooth, of several sizes."""
    generator = np.random.default_rng(0)
    for factors in SIZES:
        height, width = (max(1, round(factor * side)) for factor, side in zip(factors, size, strict=True))
        coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        yield np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
