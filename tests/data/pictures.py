"""Folders of small pictures of which a test knows everything, and the ways in which one of them can be broken."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 47, height: int = 33) -> Image.Image:
    """Coloured blobs: smooth, as photos are, and another picture for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def write_set(root: Path, each: int = 4, classes: tuple[str, ...] = ("cat", "dog"), suffix: str = ".png") -> Path:
    """`root/{train,val,test}/<class>/<number>`, all of them different."""
    seed = 0
    for split in ("train", "val", "test"):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(each):
                photo(seed := seed + 1).save(folder / f"{number}{suffix}")
    return root


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _zeroed(content: bytes) -> bytes:
    """As a file is whose end was not on the disk yet when the power went."""
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def _flipped(content: bytes) -> bytes:
    """A PNG with one bit of its pixels flipped."""
    place = content.index(b"IDAT") + 20
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


#: What can be wrong with a file: its suffix and content, and a word of the reason.
BROKEN = {
    "empty": (".jpg", b"", "empty"),
    "text": (".jpg", b"<!doctype html><title>404 Not Found</title>", "unknown format"),
    "half JPEG": (".jpg", _half(encoded(photo(90, 300, 200), "JPEG")), "truncated"),
    "half PNG": (".png", _half(encoded(photo(90), "PNG")), "truncated"),
    "JPEG with zeros": (".jpg", _zeroed(encoded(photo(90, 300, 200), "JPEG")), "truncated"),
    "PNG with zeros": (".png", _zeroed(encoded(photo(90), "PNG")), "damaged"),
    "flipped bit": (".png", _flipped(encoded(photo(90), "PNG")), ""),
    "too many pixels": (".png", encoded(Image.new("1", (400, 400)), "PNG"), "400×400 pixels"),
}
#: What may look odd and can be read.
WHOLE = {
    "animated GIF": (".gif", encoded(photo(91), "GIF", save_all=True, append_images=[photo(92), photo(93)])),
    "JPEG with an appendix": (".jpg", encoded(photo(91), "JPEG") + b"left behind by a camera"),
    "WebP": (".webp", encoded(photo(91), "WEBP")),
    "TIFF": (".tif", encoded(photo(91), "TIFF")),
    "PPM": (".ppm", encoded(photo(91), "PPM")),
    "BMP": (".bmp", encoded(photo(91), "BMP")),
    "progressive JPEG": (".jpeg", encoded(photo(91), "JPEG", progressive=True)),
}
