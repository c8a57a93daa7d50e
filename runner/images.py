"""From an image of any kind to the square of bytes that a network is given; the same for training and prediction."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    """An upright RGB image whose shorter side was scaled to `size` (bilinear) and whose centre was cut out.

    Returns uint8 [size, size, 3].
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        upright = Image.fromarray((np.asarray(upright, dtype=np.uint32) >> 8).astype(np.uint8))
    return np.asarray(ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.BILINEAR))


def decode(source: str | Path | bytes, size: int) -> np.ndarray:
    """`preprocess` of an image file or of its content. Errors: DataError naming it when it cannot be read."""
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return preprocess(image, size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        if isinstance(source, bytes):
            raise DataError(f"{len(source)} bytes are no image: of an unknown format, or damaged.") from error
        raise DataError(f"{source} cannot be read as an image: {error}. Replace or remove it.") from error


def resize_all(images: np.ndarray, size: int) -> np.ndarray:
    """Square images uint8 [N, H, H, C] scaled to uint8 [N, size, size, C] (bilinear)."""
    if images.shape[1] == size:
        return images
    resized = np.empty((len(images), size, size, images.shape[3]), dtype=np.uint8)
    for target, image in zip(resized, images, strict=True):
        picture = Image.fromarray(image.squeeze())
        target[:] = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).reshape(target.shape)
    return resized
