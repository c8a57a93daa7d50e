"""Resizing images by the compiled kernels."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from ..images import resampling
from . import native


@functools.cache
def resampler() -> resampling.Resample:
    """The compiled `resampling.resample`; Pillow's, which is slower, if there are no kernels."""
    return resampling.resample if native.unavailable() else resample


def resample(image: Image.Image, box: resampling.Box, size: resampling.Size) -> np.ndarray:
    """As `resampling.resample`, bit for bit. Errors: MemoryError."""
    left, upper, right, lower = box
    width, height = size
    if lower - upper <= height:
        return resampling.resample(image, box, size)
    pixels = np.ascontiguousarray(image)
    scaled = np.empty((height, width, 1 if pixels.ndim == 2 else 3), dtype=np.uint8)
    native.kernels().resample(
        *pixels.shape[:2], scaled.shape[2], pixels.ctypes.data, left, upper, right, lower, height, width,
        scaled.ctypes.data,
    )  # fmt: skip
    return scaled
