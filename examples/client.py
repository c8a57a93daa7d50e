"""Classify photos with an exported file alone: `python client.py model.pictures.onnx photo.jpg …`.

The file was exported with `deploy.preprocess=inside`. Needs onnxruntime, NumPy and, to decode photos, Pillow.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, *photos: str) -> None:
    """Print each photo's most probable class and its probability."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    described = session.get_modelmeta().custom_metadata_map
    classes, unknown_below = json.loads(described["classes"]), json.loads(described.get("unknown_below", "0"))
    for photo in photos:
        picture = ImageOps.exif_transpose(Image.open(photo)).convert("RGBA")
        # data.background of the run; white is the default.
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        [probabilities] = session.run(["probabilities"], {"pictures": np.asarray(picture)[None]})[0]
        best = probabilities.argmax()
        name = classes[best] if probabilities[best] >= unknown_below else "unknown"
        print(f"{photo}\t{name}\t{probabilities[best]:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
