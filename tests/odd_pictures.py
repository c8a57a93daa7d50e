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


def tiff(width: int, height: int, content: bytes, bits: int = 8, photometric: int = 1) -> bytes:
    """A grey TIFF of samples that Pillow does not write."""
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(content),
    }  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def twelve_bits(image: Image.Image) -> bytes:
    """A TIFF of the upper 12 bits of 16."""
    samples = np.asarray(image).astype(">u2")[..., None].view(np.uint8)
    bits = np.unpackbits(samples, axis=2)[..., :12].reshape(image.height, -1)
    return tiff(*image.size, np.packbits(bits, axis=1).tobytes(), bits=12)


def premultiplied(image: Image.Image) -> bytes:
    """A TIFF whose alpha is said to be in its colours already."""
    said, meant = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    content = encoded(image, "TIFF")
    assert said in content
    return content.replace(said, meant)


def with_clear_level(image: Image.Image, depth: int) -> bytes:
    """A PNG of 2, 4 or 16 bits of grey, of four shades, of which the first pixel's level is transparent."""
    shades = np.asarray(image).astype(np.uint16) >> 6
    # Levels of a shade differ in the last bit alone.
    levels = shades * ((1 << depth) // 4) + (np.arange(image.width) % 2 if depth > 2 else 0)
    bits = np.unpackbits(levels.astype(">u2")[..., None].view(np.uint8), axis=2)[..., 16 - depth :]
    rows = np.packbits(bits.reshape(image.height, -1), axis=1)
    return _clear_png(image, depth, 0, rows, [levels[0, 0]])


def with_clear_colour(image: Image.Image) -> bytes:
    """A PNG of 16 bits of each colour, of two shades, of which the first pixel's colour is transparent."""
    colours = np.asarray(image) // 128 * np.uint16(0x7F01)
    rows = colours.astype(">u2").reshape(image.height, -1).view(np.uint8)
    return _clear_png(image, 16, 2, rows, [*colours[0, 0]])


def _clear_png(image: Image.Image, depth: int, kind: int, rows: np.ndarray, clear: list[np.integer]) -> bytes:
    filtered = b"".join(b"\0" + row.tobytes() for row in rows)
    return png(*image.size, depth, kind, filtered, tRNS=struct.pack(f">{len(clear)}H", *map(int, clear)))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG of chunks that Pillow does not write; `rows`: each with its filter, of `depth` bits a sample."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    more = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + end


#: (suffix, format of Pillow or what writes the file, mode, options)
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
    *(("tif", "TIFF", mode, {"tiffinfo": {262: 0}}) for mode in ("I;16", "F")),
    ("tif", twelve_bits, "I;16", {}), ("png", with_clear_colour, "RGB", {}),
    *(("tif", premultiplied, mode, {}) for mode in ("LA", "RGBA")),
    *(("png", with_clear_level, "L", {"depth": depth}) for depth in (2, 4, 16)),
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
        content = encoded(image, format, **more) if isinstance(format, str) else format(image, **more)
        yield f"{number:03}_{mode.replace(';', '')}.{suffix}", content
