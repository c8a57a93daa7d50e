"""Facts about an image that was checked: whether it can be read, its size, colours and perceptual hash."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
from collections.abc import Iterator

import numpy as np
from PIL import Image

from .. import stored
from ..errors import DataError
from ..images import LARGEST_FILE, Preparation, decode
from ..images.formats import FORMATS
from . import parquet
from .shards import Members
from .splits import FilesOnDisk, Pictures

#: How closely an image was checked: not at all, its first and last bytes, decoded.
NOTHING, ENDS, DECODED = range(3)
#: The facts about an image. `content` is a digest of its bytes; `across` and `down` say for 8×8 positions whether the
#: image becomes darker to the right and downwards (difference hash, Krawetz, 2013), 0 if unknown; `frames` is 2 if it
#: has several frames or pages, 1 if it has one, 0 if unknown.
FACTS = np.dtype(
    [("level", "u1"), ("mode", "u1"), ("width", "u4"), ("height", "u4"),
     ("content", "u8"), ("across", "u8"), ("down", "u8"), ("frames", "u1")]
)  # fmt: skip
#: Shortest side in pixels for which the hash is telling: small images of a class all look alike.
SMALLEST = 64
#: An image of which only the first and last bytes were checked.
WHOLE = np.array((ENDS, 0, 0, 0, 0, 0, 0, 0), FACTS)
#: Pillow's colour modes by their number in `mode`; 0 is any other one.
MODES = ("", "RGB", "L", "RGBA", "P", "LA", "CMYK", "1", "I;16", "I", "F", "YCbCr", "PA", "LAB", "I;16B")
#: Formats of animations and of documents.
FRAMED = ("GIF", "PNG", "WEBP", "TIFF")
#: Bytes of a file that is read before its header is looked at.
READ_AT_ONCE = 64 << 20
#: Grey levels by which neighbours have to differ: less is compression noise.
_STEP = 3
#: First bytes of a format → its last bytes; and how many of the last bytes are read.
_BEGINNINGS = {
    b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG\r\n\x1a\n": b"IEND\xaeB`\x82", b"GIF87a": b";", b"GIF89a": b";",
    b"BM": b"", b"II*\0": b"", b"MM\0*": b"", b"RIFF": b"", **{b"P%d" % number: b"" for number in range(1, 7)},
}  # fmt: skip
_ENDS = 16
#: Neither PyArrow's files nor user code can be assumed to be thread-safe.
_one_at_a_time = threading.Lock()


def seem_whole(pictures: Pictures, indices: np.ndarray) -> Iterator[bool]:
    """Whether the first and last bytes of these images are those of a supported format.

    True also if they cannot be had without reading the whole image, False for one that cannot be read. An image that
    fails may still be readable: some programs append data after the end.
    """
    if isinstance(pictures, FilesOnDisk):
        return map(_are_whole, map(_ends_of_file, pictures.paths(indices), pictures.sizes()[indices].tolist()))
    return (_are_whole(_ends(pictures, index)) for index in indices.tolist())


def _are_whole(ends: tuple[bytes, bytes] | None) -> bool:
    if ends is None:
        return True
    head, tail = ends
    for begin, end in _BEGINNINGS.items():
        if head.startswith(begin):
            return tail.endswith(end)
    return False


def read(pictures: Pictures, index: int) -> str | bytes:
    """The path or the content of an image; safe to call from several threads. Errors: OSError, DataError."""
    is_archive = isinstance(pictures, Members) and not pictures.shards[0].lower().endswith(parquet.SUFFIXES)
    with contextlib.nullcontext() if is_archive or isinstance(pictures, FilesOnDisk) else _one_at_a_time:
        return pictures.read(index)


def _ends(pictures: Pictures, index: int) -> tuple[bytes, bytes] | None:
    """The first and last bytes of an image, empty if it cannot be read; None if they require reading it all."""
    with contextlib.suppress(OSError, DataError):
        if isinstance(pictures, Members):
            return pictures.ends(index, _ENDS)
        source = read(pictures, index)
        if isinstance(source, bytes):
            return source[:_ENDS], source[-_ENDS:]
        return _ends_of_file(os.fsencode(source), os.stat(source).st_size)
    return b"", b""


def _ends_of_file(path: bytes, size: int) -> tuple[bytes, bytes]:
    try:
        descriptor = stored.regular_descriptor(path)
    except OSError:
        return b"", b""
    try:
        return os.pread(descriptor, _ENDS, 0), os.pread(descriptor, _ENDS, max(0, size - _ENDS))
    except OSError:
        return b"", b""
    finally:
        os.close(descriptor)


def decoded(source: str | bytes, max_pixels: int) -> np.ndarray:
    """All facts of an image, which is decoded as in training. Errors: DataError, OSError."""
    facts = np.zeros((), FACTS)
    if isinstance(source, str):
        # A larger file is first refused by its header if it may not be decoded.
        if os.stat(source).st_size > READ_AT_ONCE:
            decode(source, _small(max_pixels))
        source = stored.read_regular(source, LARGEST_FILE)
    if not source:
        raise DataError("empty")
    thumbnail = decode(source, _small(max_pixels))
    with Image.open(io.BytesIO(source), formats=tuple(dict.fromkeys(FORMATS.values()))) as image:
        facts["width"], facts["height"] = image.size
        facts["mode"] = MODES.index(image.mode) if image.mode in MODES else 0
        facts["frames"] = _frames(image)
        try:
            # `verify` checks a PNG's checksums, without which zeros at the end (never flushed to the disk) would be
            # decoded.
            image.verify()
        except Exception as error:
            raise DataError(f"damaged: {error}") from error
    facts["level"], facts["content"] = DECODED, _digest(source)
    if min(facts["width"], facts["height"]) >= SMALLEST:
        facts["across"], facts["down"] = likeness(thumbnail[..., 0])
    return facts


def _frames(image: Image.Image) -> int:
    """1 or, for several frames or pages, 2; 0 if what follows the first one cannot be read."""
    if image.format not in FRAMED:
        # Beside a phone's photo there may be a preview, or its depth.
        return 1
    with contextlib.suppress(Exception):
        return 1 + bool(getattr(image, "is_animated", False))
    return 0


def content(source: str | bytes) -> int:
    """The digest of an image's bytes. Errors: OSError."""
    if isinstance(source, str):
        source = stored.read_regular(source, LARGEST_FILE)
    return _digest(source)


def in_memory(images: np.ndarray) -> np.ndarray:
    """The facts of images uint8 [N, H, W, C], without the hash: they are small."""
    facts = np.zeros(len(images), FACTS)
    facts["height"], facts["width"], channels = images.shape[1:]
    facts["mode"] = {1: MODES.index("L"), 3: MODES.index("RGB")}.get(channels, 0)
    facts["level"], facts["content"] = DECODED, [_digest(image.tobytes()) for image in images]
    return facts


def _small(max_pixels: int) -> Preparation:
    return Preparation(9, 9, 1, "stretch", max_pixels=max_pixels)


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def likeness(thumbnail: np.ndarray) -> tuple[int, int]:
    """The difference hash, 2 × 64 bits, of an image uint8 [9, 9]: whether it is darker to the right, and below."""
    levels = thumbnail.astype(np.int16)
    place = levels[:8, :8]
    return _bits(place - levels[:8, 1:] >= _STEP), _bits(place - levels[1:, :8] >= _STEP)


def _bits(flags: np.ndarray) -> int:
    return int.from_bytes(np.packbits(flags).tobytes(), "little")
