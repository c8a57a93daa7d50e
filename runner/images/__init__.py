"""Decodes, converts and resizes pictures to network input; the same for training and prediction."""

from __future__ import annotations

import base64
import contextlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from .. import colours, stored
from ..errors import DataError
from .formats import FORMATS, UNREAD
from .resampling import Box, Resample, Size, resample

#: Pixels that are decoded unless told otherwise, as many as Pillow takes without a warning: phones and cameras have
#: 12 to 60 million. Decoding takes 4 bytes a pixel, 8 where it is turned or has an alpha channel, at most 12.
MAX_PIXELS = 89_478_485
# The bound here is the stricter one, and an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
#: How many times as much memory WebP takes; most bytes of a picture's file, what Linux reads in one call.
_WEBP_WEIGHT, LARGEST_FILE = 2, (1 << 31) - 4096
#: EXIF's orientations, and what turns a picture that is stored so upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
#: Those at which height and width change places, and those at which then rows or columns are mirrored.
_LYING, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
#: A JPEG is decoded at a half, quarter or eighth of its size where the result is smaller than that by this factor, and
#: than the whole by the other: details and noise are averaged then nearly as they are in the whole picture.
_SPARE, _LEAST = 1.6, 4

Crop = Callable[[Size], Box]
"""What is cut out of an upright picture of a size, in whole pixels."""

#: How a picture of another aspect ratio is fitted.
RESIZES = ("crop", "pad", "stretch")


@dataclass(frozen=True)
class Preparation:
    """Preprocessing of a picture up to normalisation."""

    height: int
    """Rows of the result."""
    width: int
    """Columns of the result."""
    channels: int = 3
    """3 (RGB) or 1 (grey)."""
    resize: str = "crop"
    """`crop`: what the result covers of the scaled picture, from its centre; `pad`: all of it, on the background;
    `stretch`: all of it, each side scaled for itself."""
    crop_ratio: float = 1.0
    """Part of the largest possible crop's sides that is taken; as `crop_pct` in timm."""
    background: tuple[int, int, int] = (255, 255, 255)
    """RGB under what is transparent and around what is padded."""
    max_pixels: int = MAX_PIXELS
    """Pictures with more are refused before they are decoded."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass
class _Picture:
    """A picture, and what is taken of it."""

    image: Image.Image
    """As it is stored."""
    orientation: int
    """EXIF orientation."""
    box: Box
    """What becomes the result, in pixels of the upright picture."""
    size: Size
    """Of the result."""
    is_cut: bool
    """Whether what is beyond the box has no say in the result's outermost pixels."""

    def upright(self, size: Size) -> Size:
        """A size as stored of the upright picture, or the other way round."""
        return size[::-1] if self.orientation in _LYING else size

    def stored(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """A box of the upright picture in pixels of `image`."""
        (width, height), (left, upper, right, lower) = self.upright(self.image.size), box
        if self.orientation in _MIRRORED:
            left, right = width - right, width - left
        if self.orientation in _UPSIDE_DOWN:
            upper, lower = height - lower, height - upper
        return (upper, left, lower, right) if self.orientation in _LYING else (left, upper, right, lower)


def prepare(image: Image.Image, preparation: Preparation, crop: Crop | None = None) -> np.ndarray:
    """The picture upright, in the wanted colours and size: uint8 [H, W, C]. `crop`: see `decode`."""
    # Some formats expose EXIF only after load().
    image.load()
    return _prepared(_placed(image, preparation, crop), preparation, resample)


def _placed(image: Image.Image, preparation: Preparation, crop: Crop | None) -> _Picture:
    picture = _Picture(image, colours.orientation(image), (0, 0, 0, 0), (0, 0), crop is not None)
    picture.box, picture.size = _geometry(picture.upright(image.size), preparation, crop)
    return picture


def _prepared(picture: _Picture, preparation: Preparation, resample: Resample) -> np.ndarray:
    # One variable for all stages: each large image is freed as soon as the next exists.
    picture.image = colours.coloured(picture.image, preparation.channels, preparation.background)
    if picture.is_cut:
        left, upper, right, lower = picture.box
        column, row = math.floor(left), math.floor(upper)
        picture.image = picture.image.crop(picture.stored((column, row, math.ceil(right), math.ceil(lower))))
        picture.box = left - column, upper - row, right - column, lower - row
    if picture.orientation in _TURNS:
        # Before it is scaled, so that the order of the two passes is that of any program that scales upright pictures.
        picture.image = picture.image.transpose(_TURNS[picture.orientation])
    pixels = resample(picture.image, picture.box, picture.size)
    height, width = pixels.shape[:2]
    if (height, width) == preparation.size:
        return np.ascontiguousarray(pixels)
    canvas = np.empty((*preparation.size, preparation.channels), dtype=np.uint8)
    canvas[:] = np.asarray(Image.new("RGB", (1, 1), preparation.background).convert(_mode(preparation)))[0, 0]
    upper, left = (preparation.height - height) // 2, (preparation.width - width) // 2
    canvas[upper : upper + height, left : left + width] = pixels
    return canvas


def _geometry(size: Size, preparation: Preparation, crop: Crop | None = None) -> tuple[Box, Size]:
    """(box, output size) of an upright picture. Errors: ValueError without pixels."""
    if 0 in size:
        raise ValueError("it has no pixels")
    whole, target = (0.0, 0.0, float(size[0]), float(size[1])), (preparation.width, preparation.height)
    if crop is not None:
        return crop(size), target
    match preparation.resize:
        case "crop":
            return crop_box(size, preparation), target
        case "pad":
            return whole, padded_size(size, preparation)
    return whole, target


def _mode(preparation: Preparation) -> str:
    return "RGB" if preparation.channels == 3 else "L"


def crop_box(size: Size, preparation: Preparation) -> Box:
    """(left, upper, right, lower) of what `crop` takes of a picture of (width, height), in its pixels."""
    width, height = size
    ratio = preparation.width / preparation.height
    # The larger side gives way. No longer than the picture either: 15 / 87 · 87 is.
    wide, high = min(float(width), ratio * height), min(float(height), width / ratio)
    wide, high = wide * preparation.crop_ratio, high * preparation.crop_ratio
    left, upper = (width - wide) * 0.5, (height - high) * 0.5
    return left, upper, left + wide, upper + high


def padded_size(size: Size, preparation: Preparation) -> Size:
    """(width, height) that a picture of (width, height) has within the padding."""
    scale = min(preparation.width / size[0], preparation.height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class Unreadable(DataError):
    """A picture that cannot be decoded; `reason` is why, without its name."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(
    source: str | Path | bytes | Image.Image,
    preparation: Preparation,
    name: str | None = None,
    *,
    resample: Resample = resample,
    crop: Crop | None = None,
) -> np.ndarray:
    """A picture in a file, in the content of one or in Pillow's image: uint8 [H, W, C], as training sees it.

    `name` is for what has no path; `resample` is another implementation with the same result. `crop` is cut out of the
    whole picture and scaled, in place of `preparation.resize`. Errors: Unreadable naming the picture when it cannot be
    read, or, before it is decoded, when it has too many pixels.
    """
    called = name or (str(source) if isinstance(source, (str, Path)) else "The image")
    try:
        if isinstance(source, Image.Image):
            return prepare(source, preparation, crop)
        return _prepared(_read(source, preparation, crop), preparation, resample)
    except (_TooLarge, Image.DecompressionBombError) as error:
        # Pillow, whose bound is twice as high, refuses some before `_read` can.
        size = re.findall(r"[\d×]+", str(error))[0]
        reason = f"{size} pixels, more than the limit (data.max_pixels={preparation.max_pixels}; WebP counts twice)"
        raise Unreadable(f"{called} has {reason}. Scale it down or remove it.", reason) from error
    except Exception as error:
        # Decoders end in whatever they meet: RuntimeError, NotImplementedError, struct.error, MemoryError, …
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"of an unknown format, or damaged ({', '.join(dict.fromkeys(FORMATS.values()))} are read)"
        if name is None and isinstance(source, bytes):
            raise Unreadable(f"{len(source)} bytes are not an image: {reason}.", reason) from error
        if isinstance(error, OSError) and error.strerror:
            # The picture itself may be fine.
            raise Unreadable(f"{called} cannot be read: {error.strerror}.", error.strerror) from error
        raise Unreadable(f"{called} cannot be read as an image: {reason}. Replace or remove it.", reason) from error


class _TooLarge(Exception):
    """The size of an image, without decoding it."""


def _read(source: str | Path | bytes, preparation: Preparation, crop: Crop | None) -> _Picture:
    with _stream(source) as stream:
        image = _open_image(stream)
        width, height = image.size
        if width * height * (_WEBP_WEIGHT if image.format == "WEBP" else 1) > preparation.max_pixels:
            raise _TooLarge(f"{width}×{height}")
        colours.mend_transparent_colour(image)
        if not isinstance(image, JpegImageFile):
            image.load()
            return _placed(image, preparation, crop)
        picture = _placed(image, preparation, crop)
        reduction = _reduction(picture.box, picture.size)
        image.draft(_mode(preparation), (width // reduction, height // reduction))
        image.load()
        picture.box = _reduced(picture, (width, height), reduction)
        return picture


def _open_image(stream: IO[bytes]) -> Image.Image:
    """Errors: ValueError naming a format of phones that is not read; UnidentifiedImageError."""
    try:
        return Image.open(stream, formats=tuple(dict.fromkeys(FORMATS.values())))
    except UnidentifiedImageError:
        stream.seek(0)
        if (name := UNREAD.get(stream.read(12)[4:])) is not None:
            raise ValueError(f"{name} is not read: convert it to JPEG or PNG") from None
        raise


def _reduction(box: Box, size: Size) -> int:
    """The factor by which a JPEG can be scaled down during decoding, which takes a fraction of the time."""
    (left, upper, right, lower), (columns, rows) = box, size
    scale = min((right - left) / columns, (lower - upper) / rows)
    return max(reduction for reduction in (1, 2, 4, 8) if reduction == 1 or max(_SPARE * reduction, _LEAST) <= scale)


def _reduced(picture: _Picture, size: Size, reduction: int) -> Box:
    """The box of a picture after it was scaled down from a stored size; its last column and row may be filled up."""
    sides = zip(picture.upright(picture.image.size), picture.upright(size), strict=True)
    # Mirrored, what is filled up comes first.
    columns, rows = (now - before / reduction for now, before in sides)
    across = columns if picture.orientation in _MIRRORED else 0
    down = rows if picture.orientation in _UPSIDE_DOWN else 0
    left, upper, right, lower = (place / reduction for place in picture.box)
    return left + across, upper + down, right + across, lower + down


@contextlib.contextmanager
def _stream(source: str | Path | bytes) -> Iterator[IO[bytes]]:
    with io.BytesIO(source) if isinstance(source, bytes) else stored.open_regular(source, LARGEST_FILE) as stream:
        yield stream


def png(image: np.ndarray, side: int) -> str:
    """An image uint8 [H, W, C] as a PNG in base64, scaled down where a side is longer.

    Of images that are neither grey nor RGB the first channel is shown.
    """
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def to_grey(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] as Pillow's mode L has them (ITU-R 601-2 luma): uint8 [N, H, W, 1]."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[..., None]
