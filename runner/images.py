"""From an image of any kind to the square of bytes that a network is given; the same for training and prediction."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataError

#: Suffix of an image file → Pillow's name of its format. Pillow reads some forty others, whose decoders are tried less.
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF",
    ".ppm": "PPM", ".gif": "GIF",
}  # fmt: skip
#: Pixels that are decoded unless told otherwise, as many as Pillow takes without a warning: phones and cameras have
#: 12 to 60 million. Decoding takes 4 bytes a pixel, 8 where it is turned or has an alpha channel: at most 0.7 GB.
MAX_PIXELS = 89_478_485
# The bound here is the stricter one, and an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
#: Decoding WebP takes twice as much.
_WEBP_WEIGHT = 2
#: EXIF's tag, and what turns an image upright by its value.
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def preprocess(image: Image.Image, size: int) -> np.ndarray:
    """An upright RGB image whose shorter side was scaled to `size` (bilinear) and whose centre was cut out.

    Returns uint8 [size, size, 3].
    """
    # One name for all of them: a large image is let go of as soon as there is the next.
    image = _upright(image)
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR))


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as the camera noted; as it is where what is noted makes no sense."""
    try:
        turn = _TURNS[image.getexif()[_ORIENTATION]]
    except Exception:
        return image
    return image.transpose(turn)


def decode(source: str | Path | bytes | Image.Image, size: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`preprocess` of an image file, of its content or of Pillow's image.

    Errors: DataError naming it when it cannot be read, or, before it is decoded, when it has more than `max_pixels`.
    """
    name = str(source) if isinstance(source, (str, Path)) else "The image"
    try:
        return preprocess(_loaded(source, max_pixels), size)
    except _TooLarge as error:
        raise DataError(
            f"{name} has {error} pixels, more than are decoded (data.max_pixels={max_pixels}; WebP counts twice). "
            "Scale it down or remove it."
        ) from error
    except Exception as error:
        # Decoders end in whatever they meet: RuntimeError, NotImplementedError, struct.error, MemoryError, …
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"of an unknown format, or damaged ({', '.join(dict.fromkeys(FORMATS.values()))} are read)"
        if isinstance(source, bytes):
            raise DataError(f"{len(source)} bytes are not an image: {reason}.") from error
        raise DataError(f"{name} cannot be read as an image: {reason}. Replace or remove it.") from error


class _TooLarge(Exception):
    """The size of an image that is not decoded."""


def _loaded(source: str | Path | bytes | Image.Image, max_pixels: int) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    with _stream(source) as stream:
        image = Image.open(stream, formats=tuple(dict.fromkeys(FORMATS.values())))
        width, height = image.size
        if width * height * (_WEBP_WEIGHT if image.format == "WEBP" else 1) > max_pixels:
            raise _TooLarge(f"{width}×{height}")
        image.load()
        # Some formats read what the camera noted only now.
        with contextlib.suppress(Exception):
            image.getexif()
        return image


@contextlib.contextmanager
def _stream(source: str | Path | bytes) -> Iterator[IO[bytes]]:
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
        yield stream


def resize_all(images: np.ndarray, size: int) -> np.ndarray:
    """Square images uint8 [N, H, H, C] scaled to uint8 [N, size, size, C] (bilinear)."""
    if images.shape[1] == size:
        return images
    resized = np.empty((len(images), size, size, images.shape[3]), dtype=np.uint8)
    for target, image in zip(resized, images, strict=True):
        picture = Image.fromarray(image.squeeze())
        target[:] = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR)).reshape(target.shape)
    return resized
