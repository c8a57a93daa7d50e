"""Classify photos with an exported file alone: `python client.py model.pictures.onnx photo.jpg …`.

The file was exported with `deploy.preprocess=inside`. Needs onnxruntime, NumPy and, to decode photos, Pillow.
"""

import json
import re
import sys

import numpy as np
import onnxruntime

try:
    from PIL import Image
    from PIL.JpegImagePlugin import JpegImageFile
except ImportError:
    sys.exit(
        "Pillow decodes the photos: pip install Pillow. Pictures that are arrays already, uint8 [N, height, width, 3], "
        "need onnxruntime and NumPy alone: session.run(['probabilities'], {'pictures': arrays})."
    )

#: Exit code where a file cannot be read, as `predict` has it.
UNREADABLE = 3
#: What may not be on a line: control characters.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# Pillow's decoders of other formats may take memory out of proportion, or run programs.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF")
# EXIF's orientation, and what turns the picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
# Those at which height and width change places, and those at which then rows or columns are mirrored.
LYING, UPSIDE_DOWN, MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)


def main(model: str, *photos: str) -> int:
    """Print each photo's most probable class, or its labels, and their probabilities."""
    # A name need not be text.
    sys.stdout.reconfigure(errors="backslashreplace")
    # It would warn of constants that it has folded.
    onnxruntime.set_default_logger_severity(3)
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:
        print(f"{model} cannot be read as a network: {error}", file=sys.stderr)
        return UNREADABLE
    if [one.name for one in session.get_inputs()] != ["pictures"]:
        print(f"{model} does not take pictures. Export it with deploy.preprocess=inside.", file=sys.stderr)
        return UNREADABLE
    described = session.get_modelmeta().custom_metadata_map
    failed = 0
    for photo in photos:
        try:
            inputs = read(photo, described)
        except Exception as error:
            # Decoders end in whatever they meet.
            print(f"{photo} cannot be read: {error}", file=sys.stderr)
            failed = UNREADABLE
            continue
        [probabilities] = session.run(["probabilities"], inputs)[0]
        print(UNPRINTABLE.sub("\ufffd", photo), *decided(probabilities, described), sep="\t")
    return failed


def read(photo: str, described: dict[str, str]) -> dict[str, np.ndarray]:
    """The inputs for a photo: its first frame, upright and on the background, and where all of it is, if not in all."""
    size = None
    # Of a TIFF that it opens by name and turns upright, Pillow 13.0 mixes up the rows.
    with open(photo, "rb") as stream:
        image = Image.open(stream, formats=FORMATS)
        mend_transparent_colour(image)
        if isinstance(image, JpegImageFile) and "image_size" in described:
            size = draft(image, described)
        image.load()
    turned = orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        background = json.loads(described.get("background", "[255, 255, 255]"))
        under = Image.new("RGB", image.size, tuple(background))
        under.paste(image, mask=image)
        image = under
    image = image.convert("RGB")
    pixels = np.asarray(image.transpose(TURNS[turned]) if turned in TURNS else image)
    if size is None:
        return {"pictures": pixels[None]}
    (height, width, _), (wide, high) = pixels.shape, size
    left, upper = width - wide if turned in MIRRORED else 0, height - high if turned in UPSIDE_DOWN else 0
    return {"pictures": pixels[None], "whole": np.array([left, upper, wide, high], np.float64)}


def draft(image: JpegImageFile, described: dict[str, str]) -> tuple[float, float]:
    """Have libjpeg scale a large photo down while it decodes, as `predict` does.

    Returns its upright width and height then, which need not be whole: an eighth of 4001 columns are 500.125, and the
    last of the 501 that are decoded is filled up.
    """
    upright = image.size[::-1] if orientation(image) in LYING else image.size
    factor = reduction(*upright, described)
    mode = "L" if described["channels"] == "1" else "RGB"
    image.draft(mode, (image.width // factor, image.height // factor))
    return upright[0] / factor, upright[1] / factor


def orientation(image: Image.Image) -> int:
    """EXIF's orientation."""
    # Pillow would take one from there too.
    for name in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(name, None)
    return image.getexif().get(0x0112, 1)


def reduction(width: float, height: float, described: dict[str, str]) -> int:
    """The factor by which `predict` has a photo scaled down, in the same arithmetic."""
    rows, columns = json.loads(described["image_size"])
    if described["resize"] == "crop":
        ratio, part = columns / rows, float(described["crop_ratio"])
        wide, high = min(width, ratio * height) * part, min(height, width / ratio) * part
        left, upper = (width - wide) * 0.5, (height - high) * 0.5
        width, height = left + wide - left, upper + high - upper
    elif described["resize"] == "pad":
        scale = min(columns / width, rows / height)
        columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    scale = min(width / columns, height / rows)
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or max(1.6 * factor, 4) <= scale)


def mend_transparent_colour(image: Image.Image) -> None:
    """Make the transparent colour of a PNG one of 8 bits, as its pixels will be: Pillow leaves it as in the file."""
    if image.format == "PNG" and (clear := image.info.get("transparency")) is not None:
        factor = {"L;2": 85, "L;4": 17}.get(image.tile[0][3], 1)
        is_deep = image.tile[0][3] == "RGB;16B"
        image.info["transparency"] = tuple(level >> 8 for level in clear) if is_deep else clear * factor


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits as 8 with alpha: the upper ones of integers; of floats 0 is black and 1 white."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    most = 1 if image.mode == "F" else 0xFFFF
    if not (values.min() >= 0 and values.max() <= most):
        raise ValueError(f"its values, {values.min()} to {values.max()}, are not within 0 to {most}")
    if image.mode == "F":
        grey = (values * 255 + 0.5).astype(np.uint8)
    else:
        is_of_eight = image.mode == "I" and image.format not in ("PNG", "PPM") and values.max() <= 0xFF
        bits = 8 if is_of_eight else 12 if tags.get(258) == (12,) else 16
        grey = (values >> (bits - 8)).astype(np.uint8)
    if tags.get(262) == 0:
        # White is 0, which Pillow turns round in 8 bits alone.
        grey = 255 - grey
    alpha = np.where(values == image.info.get("transparency", -1), 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([grey, alpha]))


def decided(probabilities: np.ndarray, described: dict[str, str]) -> list[str]:
    """The class and its probability; of a network of several labels those from their thresholds on."""
    # A name can hold what a terminal would obey.
    classes = [UNPRINTABLE.sub("\ufffd", name) for name in json.loads(described["classes"])]
    best = (-probabilities).argsort(kind="stable")
    if "thresholds" in described:
        thresholds = np.array(json.loads(described["thresholds"]), np.float32)
        best = [place for place in best if probabilities[place] >= thresholds[place]]
        return [text for place in best for text in (classes[place], f"{probabilities[place]:.4f}")] or ["no label"]
    unknown_below = np.float32(json.loads(described.get("unknown_below", "0")))
    name = classes[best[0]] if probabilities[best[0]] >= unknown_below else "unknown"
    return [name, f"{probabilities[best[0]]:.4f}"]


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print("usage: python client.py model.pictures.onnx photo.jpg …", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
