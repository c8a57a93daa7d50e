"""Classify photos with an exported file alone: `python client.py model.pictures.onnx photo.jpg …`.

The file was exported with `deploy.preprocess=inside`. Needs onnxruntime, NumPy and, to decode photos, Pillow.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

# EXIF's orientation, and what turns the picture upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


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
        return 1
    if [one.name for one in session.get_inputs()] != ["pictures"]:
        print(f"{model} does not take pictures. Export it with deploy.preprocess=inside.", file=sys.stderr)
        return 1
    described = session.get_modelmeta().custom_metadata_map
    background = tuple(json.loads(described.get("background", "[255, 255, 255]")))
    failed = 0
    for photo in photos:
        try:
            pixels = read(photo, background)
        except Exception as error:
            # Decoders end in whatever they meet.
            print(f"{photo} cannot be read: {error}", file=sys.stderr)
            failed = 1
            continue
        [probabilities] = session.run(["probabilities"], {"pictures": pixels[None]})[0]
        print(photo, *decided(probabilities, described), sep="\t")
    return failed


def read(photo: str, background: tuple[int, ...]) -> np.ndarray:
    """The first frame, upright, on the background: uint8 [height, width, 3] in RGB."""
    # Of a TIFF that it opens by name and turns upright, Pillow 13.0 mixes up the rows.
    with open(photo, "rb") as stream:
        image = Image.open(stream)
        mend_transparent_colour(image)
        image.load()
    # Pillow would take an orientation from there too.
    for name in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(name, None)
    turn = TURNS.get(image.getexif().get(0x0112))
    if image.mode == "F" or image.mode.startswith("I"):
        image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        under = Image.new("RGB", image.size, background)
        under.paste(image, mask=image)
        image = under
    image = image.convert("RGB")
    return np.asarray(image if turn is None else image.transpose(turn))


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
    classes = json.loads(described["classes"])
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
        sys.exit("usage: python client.py model.pictures.onnx photo.jpg …")
    sys.exit(main(*sys.argv[1:]))
