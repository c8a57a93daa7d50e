"""Resizing images by the compiled kernels."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from .. import images
from . import native


@functools.cache
def resampler() -> images.Resample:
    """The compiled `images.resample`; Pillow's, which is slower, if there are no kernels."""
    return images.resample if native.unavailable() else resample


def resample(image: Image.Image, box: images.Box, size: images.Size) -> np.ndarray:
    """As `images.resample`, bit for bit. Errors: MemoryError."""
    left, upper, right, lower = box
    width, height = size
    if lower - upper <= height:
        return images.resample(image, box, size)
    pixels = np.ascontiguousarray(image)
    scaled = np.empty((height, width, 1 if pixels.ndim == 2 else 3), dtype=np.uint8)
    native.kernels().resample(
        *pixels.shape[:2], scaled.shape[2], pixels.ctypes.data, left, upper, right, lower, height, width,
        scaled.ctypes.data,
    )  # fmt: skip
    return scaled
