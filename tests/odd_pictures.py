"""Pictures as they come from anywhere: every mode, format, depth, kind of transparency, orientation and odd size."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import PIL
from PIL import Image

SIZES = [
    (47, 33), (1, 1), (33, 47), (2, 3), (16, 16), (9, 1), (301, 200), (1, 9), (64, 64), (2000, 7), (7, 2000), (20, 24),
    (5, 40), (3000, 2),
]  # fmt: skip
#: Pillow before 13 (Python 3.10) cannot read the TIFFs of luma and chroma that it writes.
READS_YCBCR = int(PIL.__version__.partition(".")[0]) >= 13
#: (suffix, format, mode, options of Pillow)
KINDS = [
    *(("png", "PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("png", "PNG", "P", {"transparency": 3}), ("png", "PNG", "P", {"transparency": bytes(range(256))}),
    ("png", "PNG", "L", {"transparency": 9}), ("png", "PNG", "RGB", {"transparency": (9, 9, 9)}),
    *(("jpg", "JPEG", mode, {"quality": 95}) for mode in ("L", "RGB", "CMYK", "YCbCr")),
    ("jpeg", "JPEG", "RGB", {"progressive": True, "quality": 90}), ("mpo", "MPO", "RGB", {"save_all": True}),
    *(("bmp", "BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    ("webp", "WEBP", "RGB", {"quality": 90}), ("webp", "WEBP", "RGBA", {"lossless": True}),
    *(("tif", "TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB")),
    *((("tif", "TIFF", "YCbCr", {}),) if READS_YCBCR else ()),
    *(("tiff", "TIFF", mode, {"compression": "tiff_lzw"}) for mode in ("RGB", "I;16", "I", "F")),
    *(("ppm", "PPM", mode, {}) for mode in ("1", "L", "I", "RGB")),
    ("gif", "GIF", "L", {}), ("gif", "GIF", "P", {"transparency": 5}), ("gif", "GIF", "P", {"save_all": True}),
    *((suffix, suffix.upper(), mode, {"save_all": True}) for suffix in ("png", "webp") for mode in ("RGB", "RGBA")),
    ("tif", "TIFF", "RGB", {"save_all": True}),
]  # fmt: skip


def odd_pictures(count: int = 200) -> Iterator[tuple[str, bytes]]:
    """(name, content) of different pictures."""
    turns = itertools.cycle(range(1, 9))
    for number, (suffix, format, mode, options) in enumerate(itertools.islice(itertools.cycle(KINDS), count)):
        # As many kinds as sizes would pair each kind with one size.
        size = SIZES[(number + number // len(KINDS)) % len(SIZES)]
        image, more = drawn(mode, size, number), dict(options)
        if options.get("save_all"):
            more["append_images"] = [drawn(mode, size, number + 1000)]
        if format in ("JPEG", "MPO", "PNG", "WEBP", "TIFF"):
            more["exif"] = turned(next(turns))
        if format == "TIFF" and mode in ("I", "F"):
            del more["exif"]
        yield f"{number:03}_{mode.replace(';', '')}.{suffix}", encoded(image, format, **more)


def drawn(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """A gradient with some noise, of (width, height); alpha of all values where the mode has it."""
    random, (width, height) = np.random.default_rng(seed), size
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    corners = random.uniform(0, 255, (3, 4))
    planes = [
        a * (1 - across) * (1 - down) + b * across * (1 - down) + c * (1 - across) * down + d * across * down
        for a, b, c, d in corners
    ]
    pixels = np.clip(np.stack(planes, axis=2) + random.normal(0, 12, (height, width, 3)), 0, 255)
    match mode:
        case "P":
            return Image.fromarray(pixels.astype(np.uint8)).quantize(16)
        case "I;16":
            return Image.fromarray((pixels[..., 0] * 257).astype(np.uint16))
        case "I":
            return Image.fromarray((pixels[..., 0] * 257).astype(np.int32))
        case "F":
            return Image.fromarray((pixels[..., 0] / 255).astype(np.float32))
        case "LA" | "RGBA":
            image = Image.fromarray(pixels.astype(np.uint8)).convert(mode)
            image.putalpha(Image.fromarray(random.integers(0, 256, (height, width), dtype=np.uint8)))
            return image
        case "LAB":
            # Of greyish colours, which are within what RGB has.
            lab = np.stack([pixels[..., 0], 118 + pixels[..., 1] / 12, 118 + pixels[..., 2] / 12], axis=2)
            return Image.frombytes("LAB", size, _signed(lab).tobytes())
    return Image.fromarray(pixels.astype(np.uint8)).convert(mode)


def _signed(lab: np.ndarray) -> np.ndarray:
    # Pillow's a and b begin at -128.
    return (lab.astype(np.int32) - [0, 128, 128]).astype(np.uint8)


def turned(orientation: int) -> Image.Exif:
    """A camera's note."""
    note = Image.Exif()
    note[0x112] = orientation
    return note


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The content of a file with it."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG of chunks that Pillow does not write; `rows`: each with its filter, of `depth` bits a sample."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + end
