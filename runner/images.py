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

from . import colours, stored
from .errors import DataError

#: Suffix of an image file → Pillow's name of its format; what is in a file decides, whatever its suffix.
#: Of some forty others AVIF and JPEG 2000 can ask for much more memory than the pixels that they say they have (a size
#: of 24×24 around 4096×4096; blocks of 4×4), TGA accepts what is not a picture, ICO hides a second file, EPS runs
#: programs.
FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".mpo": "JPEG", ".bmp": "BMP",
    ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM", ".pbm": "PPM", ".pnm": "PPM",
    ".gif": "GIF",
}  # fmt: skip
#: What desktops, archives and storage devices leave in folders, in small letters.
SYSTEM = {
    "thumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip
#: Pixels that are decoded unless told otherwise, as many as Pillow takes without a warning: phones and cameras have
#: 12 to 60 million. Decoding takes 4 bytes a pixel, 8 where it is turned or has an alpha channel, at most 12.
MAX_PIXELS = 89_478_485
# The bound here is the stricter one, and an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
#: How many times as much memory WebP takes; most bytes of a picture's file, what Linux reads in one call.
_WEBP_WEIGHT, LARGEST_FILE = 2, (1 << 31) - 4096
#: EXIF's orientations at which height and width change places, and those at which then rows or columns are mirrored.
_LYING, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
#: A JPEG is decoded at a half, quarter or eighth of its size where the result is smaller than that by this factor, and
#: than the whole by the other: details and noise are averaged then nearly as they are in the whole picture.
_SPARE, _LEAST = 1.6, 4

#: What is in the beginning of a file → the format, of those that phones write and that are not read.
_UNREAD = {
    b"ftyp" + brand: "HEIC" for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
}
_UNREAD |= {b"ftyp" + brand: "AVIF" for brand in (b"avif", b"avis")}

Box = tuple[float, float, float, float]
"""(left, upper, right, lower) in pixels."""
Size = tuple[int, int]
"""(width, height) in pixels."""
Resample = Callable[[Image.Image, Box, Size], np.ndarray]
"""Scales a box of a grey or RGB picture with antialiasing: uint8 [height, width, C]."""
Crop = Callable[[Size], Box]
"""What is cut out of an upright picture of a size, in whole pixels."""

#: How a picture of another aspect ratio is fitted.
RESIZES = ("crop", "pad", "stretch")


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or that of a system's or archive's metadata."""
    return name[0] == "." or name.lower() in SYSTEM


def is_picture(name: str) -> bool:
    """Whether a name has the suffix of a readable picture."""
    return name[name.rfind(".") :].lower() in FORMATS


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


@dataclass
class _Picture:
    """A picture, and what is taken of it."""

    image: Image.Image
    orientation: int
    """EXIF orientation; all else is as the picture is stored."""
    box: Box
    """What becomes the result, in pixels of `image`."""
    size: Size
    """Of the result."""
    is_cut: bool
    """Whether what is beyond the box has no say in the result's outermost pixels."""


def prepare(image: Image.Image, preparation: Preparation, crop: Crop | None = None) -> np.ndarray:
    """The picture upright, in the wanted colours and size: uint8 [H, W, C]. `crop`: see `decode`."""
    # Some formats expose EXIF only after load().
    image.load()
    return _prepared(_placed(image, preparation, crop), preparation, resample)


def _placed(image: Image.Image, preparation: Preparation, crop: Crop | None) -> _Picture:
    orientation = colours.orientation(image)
    return _Picture(image, orientation, *_geometry(image.size, orientation, preparation, crop), crop is not None)


def _prepared(picture: _Picture, preparation: Preparation, resample: Resample) -> np.ndarray:
    # One variable for all stages: each large image is freed as soon as the next exists.
    picture.image = colours.coloured(picture.image, preparation.channels, preparation.background)
    if picture.is_cut:
        left, upper, right, lower = picture.box
        column, row = math.floor(left), math.floor(upper)
        picture.image = picture.image.crop((column, row, math.ceil(right), math.ceil(lower)))
        picture.box = left - column, upper - row, right - column, lower - row
    pixels = _upright(resample(picture.image, picture.box, picture.size), picture.orientation)
    height, width = pixels.shape[:2]
    if (height, width) == preparation.size:
        return np.ascontiguousarray(pixels)
    canvas = np.empty((*preparation.size, preparation.channels), dtype=np.uint8)
    canvas[:] = np.asarray(Image.new("RGB", (1, 1), preparation.background).convert(_mode(preparation)))[0, 0]
    upper, left = (preparation.height - height) // 2, (preparation.width - width) // 2
    canvas[upper : upper + height, left : left + width] = pixels
    return canvas


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in _LYING:
        pixels = pixels.swapaxes(0, 1)
    return pixels[:: -1 if orientation in _UPSIDE_DOWN else 1, :: -1 if orientation in _MIRRORED else 1]


def _geometry(size: Size, orientation: int, preparation: Preparation, crop: Crop | None = None) -> tuple[Box, Size]:
    """(box in stored orientation, output size). Errors: ValueError without pixels."""
    if 0 in size:
        raise ValueError("it has no pixels")
    upright = size[::-1] if orientation in _LYING else size
    left, upper, right, lower = 0.0, 0.0, *map(float, upright)
    target = (preparation.width, preparation.height)
    if crop is not None:
        left, upper, right, lower = crop(upright)
        # Other boxes are centred, so mirroring leaves them unchanged.
        if orientation in _MIRRORED:
            left, right = upright[0] - right, upright[0] - left
        if orientation in _UPSIDE_DOWN:
            upper, lower = upright[1] - lower, upright[1] - upper
    elif preparation.resize == "crop":
        left, upper, right, lower = crop_box(upright, preparation)
    elif preparation.resize == "pad":
        target = padded_size(upright, preparation)
    if orientation in _LYING:
        return (upper, left, lower, right), target[::-1]
    return (left, upper, right, lower), target


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
        left, upper, right, lower = picture.box
        picture.box = left / reduction, upper / reduction, right / reduction, lower / reduction
        image.draft(_mode(preparation), (width // reduction, height // reduction))
        image.load()
        return picture


def _open_image(stream: IO[bytes]) -> Image.Image:
    """Errors: ValueError naming a format of phones that is not read; UnidentifiedImageError."""
    try:
        return Image.open(stream, formats=tuple(dict.fromkeys(FORMATS.values())))
    except UnidentifiedImageError:
        stream.seek(0)
        if (name := _UNREAD.get(stream.read(12)[4:])) is not None:
            raise ValueError(f"{name} is not read: convert it to JPEG or PNG") from None
        raise


def _reduction(box: Box, size: Size) -> int:
    """The factor by which a JPEG can be scaled down during decoding, which takes a fraction of the time."""
    (left, upper, right, lower), (columns, rows) = box, size
    scale = min((right - left) / columns, (lower - upper) / rows)
    return max(reduction for reduction in (1, 2, 4, 8) if reduction == 1 or max(_SPARE * reduction, _LEAST) <= scale)


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


def to_grey(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] as Pillow's mode L has them (ITU-R 601-2 luma): uint8 [N, H, W, 1]."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[..., None]
