"""From a picture of any kind to the bytes that a network is given; the same for training and prediction."""

from __future__ import annotations

import base64
import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from . import colours
from .errors import DataError

#: Suffix of an image file → Pillow's name of its format; what is in a file decides, whatever its suffix.
#: Of some forty others AVIF and JPEG 2000 can ask for much more memory than the pixels that they say they have (a size
#: of 24×24 around 4096×4096; blocks of 4×4), TGA takes what is no picture, ICO hides a second file, EPS runs programs.
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
#: Decoding WebP takes twice as much.
_WEBP_WEIGHT = 2
#: What turns an image upright, by EXIF's orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: What may become of a picture of another shape.
RESIZES = ("crop", "pad", "stretch")


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or one that a system or an archive leaves behind."""
    return name[0] == "." or name.lower() in SYSTEM


def is_picture(name: str) -> bool:
    """Whether a name ends as those of pictures do that can be read."""
    return name[name.rfind(".") :].lower() in FORMATS


@dataclass(frozen=True)
class Preparation:
    """How a picture of any kind becomes the bytes that normalisation is given."""

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


def prepare(image: Image.Image, preparation: Preparation) -> np.ndarray:
    """An upright picture in the colours and of the size that are wanted, scaled bilinearly with antialiasing.

    Returns uint8 [H, W, C].
    """
    # Some formats have their notes only then.
    image.load()
    turn = _TURNS.get(colours.orientation(image))
    # One name for all of them: a large image is let go of as soon as there is the next.
    image = colours.coloured(image, preparation.channels, preparation.background)
    image = image if turn is None else image.transpose(turn)
    image = _resized(image, preparation)
    return np.asarray(image).reshape(*preparation.size, preparation.channels)


def _resized(image: Image.Image, preparation: Preparation) -> Image.Image:
    target = (preparation.width, preparation.height)
    match preparation.resize:
        case "crop":
            return image.resize(target, Image.Resampling.BILINEAR, box=crop_box(image.size, preparation))
        case "stretch":
            return image.resize(target, Image.Resampling.BILINEAR)
        case "pad":
            inner = padded_size(image.size, preparation)
            canvas = Image.new("RGB", target, preparation.background).convert(image.mode)
            corner = ((target[0] - inner[0]) // 2, (target[1] - inner[1]) // 2)
            canvas.paste(image.resize(inner, Image.Resampling.BILINEAR), corner)
            return canvas
    raise AssertionError(preparation)


def crop_box(size: tuple[int, int], preparation: Preparation) -> tuple[float, float, float, float]:
    """(left, upper, right, lower) of what `crop` takes of a picture of (width, height), in its pixels."""
    width, height = size
    ratio = preparation.width / preparation.height
    # The larger side gives way. No longer than the picture either: 15 / 87 · 87 is.
    wide, high = min(float(width), ratio * height), min(float(height), width / ratio)
    wide, high = wide * preparation.crop_ratio, high * preparation.crop_ratio
    left, upper = (width - wide) * 0.5, (height - high) * 0.5
    return left, upper, left + wide, upper + high


def padded_size(size: tuple[int, int], preparation: Preparation) -> tuple[int, int]:
    """(width, height) that a picture of (width, height) has within the padding."""
    scale = min(preparation.width / size[0], preparation.height / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


class Unreadable(DataError):
    """What cannot be decoded; `reason` is why, without its name."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(source: str | Path | bytes | Image.Image, preparation: Preparation, name: str | None = None) -> np.ndarray:
    """A picture in a file, in the content of one or in Pillow's image: uint8 [H, W, C], as training sees it.

    Errors: Unreadable naming it when it cannot be read, or, before it is decoded, when it has too many pixels; `name`
    is for what has no path.
    """
    called = name or (str(source) if isinstance(source, (str, Path)) else "The image")
    try:
        return prepare(_loaded(source, preparation.max_pixels), preparation)
    except _TooLarge as error:
        reason = f"{error} pixels, more than are decoded (data.max_pixels={preparation.max_pixels}; WebP counts twice)"
        raise Unreadable(f"{called} has {reason}. Scale it down or remove it.", reason) from error
    except Exception as error:
        # Decoders end in whatever they meet: RuntimeError, NotImplementedError, struct.error, MemoryError, …
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"of an unknown format, or damaged ({', '.join(dict.fromkeys(FORMATS.values()))} are read)"
        if name is None and isinstance(source, bytes):
            raise Unreadable(f"{len(source)} bytes are not an image: {reason}.", reason) from error
        raise Unreadable(f"{called} cannot be read as an image: {reason}. Replace or remove it.", reason) from error


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
        colours.mend_transparent_colour(image)
        image.load()
        return image


@contextlib.contextmanager
def _stream(source: str | Path | bytes) -> Iterator[IO[bytes]]:
    with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as stream:
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
            target[:, :, channel] = np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR))
    return resized


def to_grey(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, H, W, 3] as Pillow's mode L has them (ITU-R 601-2 luma): uint8 [N, H, W, 1]."""
    red, green, blue = (images[..., channel].astype(np.uint32) for channel in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)[..., None]
