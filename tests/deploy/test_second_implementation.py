"""Whoever follows the text in `model.json` gets what the network was trained on: here it is done again, with NumPy."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from runner.deploy.predict import Deployed
from tests.odd_pictures import odd_pictures

from . import helpers

PICTURES = list(odd_pictures())
CONFIGS = {
    "square": {},
    "crop_ratio": {"crop_ratio": 0.875, "image_size": [28, 28]},
    "wide": {"image_size": [18, 40]},
    "high": {"image_size": [40, 18], "crop_ratio": 0.6},
    "pad": {"resize": "pad", "background": [10, 200, 30], "image_size": [21, 16]},
    "stretch": {"resize": "stretch", "background": [0, 0, 0], "image_size": [17, 30]},
    "grey": {"channels": 1, "mean": [0.3], "std": [0.2], "background": [255, 0, 0]},
    "grey and padded": {"channels": 1, "mean": [0.3], "std": [0.2], "background": [1, 90, 7], "resize": "pad"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_text_in_model_json_is_enough_to_prepare_any_picture(tmp_path, name):
    folder = helpers.prepared_as(helpers.export(tmp_path / "export"), **CONFIGS[name])
    deployed, said = Deployed(folder), json.loads((folder / "model.json").read_text())
    level = 1 / (255 * np.array(said["std"]))[:, None, None]
    for file, content in PICTURES:
        difference = np.abs(deployed.prepare(content) - prepared(content, said))
        assert (difference <= 1.01 * level).all(), (file, difference.max())


def prepared(content: bytes, said: dict) -> np.ndarray:
    """float32 [C, H, W] of a file: what `preprocessing` in `model.json` says, step by step."""
    image = Image.open(io.BytesIO(content))
    width, height = image.size
    # What is in the file: Pillow makes 8 bits of 2 and 4, and of 16 of a colour. Looking for EXIF decodes it.
    stored = image.tile[0][3] if image.format == "PNG" else ""
    # Pillow turns a TIFF while it decodes it, and has its upright size from the beginning.
    orientation = 1 if image.format == "TIFF" else image.getexif().get(0x112, 1)
    wide, high = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    box, size = taken(wide, high, said)
    if image.format in ("JPEG", "MPO"):
        spare = min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
        reduction = max(r for r in (1, 2, 4, 8) if r == 1 or max(4, 1.6 * r) <= spare)
        image.draft("L" if said["channels"] == 1 else "RGB", (width // reduction, height // reduction))
        right = -wide % reduction / reduction * (orientation in (2, 3, 6, 7))
        down = -high % reduction / reduction * (orientation in (3, 4, 7, 8))
        box = tuple(place / reduction + more for place, more in zip(box, (right, down, right, down), strict=True))
    image.load()
    pixels, alpha = colours(image, *{"L;2": (85, 1), "L;4": (17, 1), "RGB;16B": (1, 256)}.get(stored, (1, 1)))
    pixels = rounded((pixels * alpha + np.array(said["background"]) * (255 - alpha)) / 255)
    if said["channels"] == 1:
        pixels = grey(pixels)
    pixels = padded(scaled(upright(pixels, orientation), box, *size), said)
    values = (pixels / 255 - np.array(said["mean"])) / np.array(said["std"])
    return values.transpose(2, 0, 1).astype(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).clip(0, 255)


def colours(image: Image.Image, times: int, over: int) -> tuple[np.ndarray, np.ndarray]:
    """RGB [h, w, 3] and alpha [h, w, 1], 0 to 255; the transparent colour is `times` and `over` that of the file."""
    if image.mode == "La":
        image = image.convert("LA")
    values, clear = np.asarray(image).astype(np.float64), image.info.get("transparency")
    if clear is not None and not isinstance(clear, bytes):
        clear = np.array(clear) * times // over
    tags = getattr(image, "tag_v2", {})
    alpha = np.full((*values.shape[:2], 1), 255.0)
    match image.mode:
        case "1":
            return np.repeat(values[..., None] * 255, 3, 2), alpha
        case "L":
            return np.repeat(values[..., None], 3, 2), alpha if clear is None else 255.0 * (values != clear)[..., None]
        case "LA":
            return np.repeat(values[..., :1], 3, 2), values[..., 1:]
        case "I;16" | "I;16B":
            upper = values // (16 if tags.get(258) == (12,) else 256)
            upper = 255 - upper if tags.get(262) == 0 else upper
            return np.repeat(upper[..., None], 3, 2), alpha if clear is None else 255.0 * (values != clear)[..., None]
        case "I":
            return np.repeat(
                values[..., None] // (1 if image.format == "TIFF" and values.max() < 256 else 256), 3, 2
            ), alpha
        case "F":
            levels = np.floor(values * 255 + 0.5)
            return np.repeat((255 - levels if tags.get(262) == 0 else levels)[..., None], 3, 2), alpha
        case "P":
            palette = np.array(image.getpalette("RGB")).reshape(-1, 3)
            opaque = np.full(256, 255.0)
            if isinstance(clear, bytes):
                opaque[: len(clear)] = list(clear)
            elif clear is not None:
                opaque[clear] = 0
            return palette[values.astype(int)].astype(float), opaque[values.astype(int)][..., None]
        case "RGB":
            return values, alpha if clear is None else 255.0 * (values != clear).any(2, keepdims=True)
        case "RGBA":
            return values[..., :3], values[..., 3:]
    return np.asarray(image.convert("RGB")).astype(float), alpha


def grey(pixels: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(pixels.astype(np.int64), 2, 0)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) // 65536)[..., None]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    across = pixels.transpose(1, 0, 2)
    return {
        2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: across, 6: across[:, ::-1],
        7: across[::-1, ::-1], 8: across[::-1],
    }.get(orientation, pixels)  # fmt: skip


def taken(columns: int, rows: int, said: dict) -> tuple[tuple[float, ...], tuple[int, int]]:
    """The box, and the width and height that it becomes."""
    height, width = said["image_size"]
    match said["resize"]:
        case "stretch":
            return (0, 0, columns, rows), (width, height)
        case "pad":
            scale = min(width / columns, height / rows)
            return (0, 0, columns, rows), (max(1, round(columns * scale)), max(1, round(rows * scale)))
    wide = min(columns, rows * width / height) * said["crop_ratio"]
    high = min(rows, columns * height / width) * said["crop_ratio"]
    return ((columns - wide) / 2, (rows - high) / 2, (columns + wide) / 2, (rows + high) / 2), (width, height)


def padded(pixels: np.ndarray, said: dict) -> np.ndarray:
    (high, wide), (height, width) = pixels.shape[:2], said["image_size"]
    canvas = np.zeros((height, width, 3)) + said["background"]
    canvas = grey(canvas) if said["channels"] == 1 else canvas
    left, upper = (width - wide) // 2, (height - high) // 2
    canvas[upper : upper + high, left : left + wide] = pixels
    return canvas


def scaled(pixels: np.ndarray, box: tuple[float, ...], width: int, height: int) -> np.ndarray:
    left, upper, right, lower = map(float, np.float32(box))

    def across(pixels: np.ndarray) -> np.ndarray:
        return rounded(np.einsum("oi,hic->hoc", weights(left, right, width, pixels.shape[1]), pixels))

    def down(pixels: np.ndarray) -> np.ndarray:
        return rounded(np.einsum("oi,iwc->owc", weights(upper, lower, height, pixels.shape[0]), pixels))

    return across(down(pixels)) if lower - upper > height else down(across(pixels))


def weights(begin: float, end: float, outputs: int, inputs: int) -> np.ndarray:
    """[outputs, inputs]: what every pixel adds to each output."""
    scale = (end - begin) / outputs
    support = max(1.0, scale)
    matrix = np.zeros((outputs, inputs))
    for output in range(outputs):
        centre = begin + (output + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(inputs, int(centre + support + 0.5))
        places = np.arange(first, last)
        matrix[output, first:last] = np.maximum(0, 1 - np.abs(places + 0.5 - centre) / support)
    return np.floor(matrix / matrix.sum(axis=1, keepdims=True) * 2**22 + 0.5) / 2**22
