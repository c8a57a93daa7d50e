"""Scales pictures and arrays of images bilinearly, to the same bits wherever it is done."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

Box = tuple[float, float, float, float]
"""(left, upper, right, lower) in pixels."""
Size = tuple[int, int]
"""(width, height) in pixels."""
Resample = Callable[[Image.Image, Box, Size], np.ndarray]
"""Scales a box of a grey or RGB picture with antialiasing: uint8 [height, width, C]."""


def resample(image: Image.Image, box: Box, size: Size) -> np.ndarray:
    """Scale a box of a grey or RGB picture bilinearly with antialiasing: uint8 [height, width, C].

    If the height shrinks it is scaled before the width, else after it, as in the compiled kernel and in exported files:
    the same bits. Pillow's own order depends on the sizes and on its version.
    """
    left, upper, right, lower = box
    if lower - upper > size[1]:
        image = image.resize((image.width, size[1]), Image.Resampling.BILINEAR, box=(0, upper, image.width, lower))
        upper, lower = 0, size[1]
    else:
        image = image.resize((size[0], image.height), Image.Resampling.BILINEAR, box=(left, 0, right, image.height))
        left, right = 0, size[0]
    image = image.resize(size, Image.Resampling.BILINEAR, box=(left, upper, right, lower))
    return np.asarray(image).reshape(size[1], size[0], -1)


def resize_all(images: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Images uint8 [N, H, W, C] scaled to a square, or to (height, width): uint8 [N, height, width, C] (bilinear)."""
    height, width = size if isinstance(size, tuple) else (size, size)
    if images.shape[1:3] == (height, width):
        return images
    resized = np.empty((len(images), height, width, images.shape[3]), dtype=np.uint8)
    for target, image in zip(resized, images, strict=True):
        # A channel at a time: Pillow has no images with two, or with more than four.
        for channel in range(images.shape[3]):
            plane = Image.fromarray(np.ascontiguousarray(image[:, :, channel]))
            target[:, :, channel] = resample(plane, (0, 0, *plane.size), (width, height))[:, :, 0]
    return resized
