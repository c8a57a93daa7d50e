"""The loader of logged models for MLflow: images in, classes with probabilities out.

`tracking.logged_model` copies this module, and those it imports, into the model, as a package of another name.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import DataError, UserError
from .predict import Deployed, named

#: The column that contains the images.
COLUMN = "image"


def _load_pyfunc(path: str) -> Served:
    """MLflow's entry point: `path` is an export folder."""
    return Served(Deployed(Path(path)))


class Served:
    """An exported network for MLflow's `predict`."""

    def __init__(self, deployed: Deployed) -> None:
        self.deployed = deployed

    def predict(self, images: Any) -> list[dict[str, Any]]:
        """`class`, `probability` and `probabilities` (class → probability) of every image in a frame's column `image`.

        The class of an unknown image is `unknown`, with the probability of its most probable class. Multi-label:
        `labels` (class → probability, from its threshold on) and `probabilities`. An image is the base64 text of a PNG,
        JPEG or other file; within a process also bytes, a `Path` or a Pillow image. Errors: MlflowException naming what
        is not an image, which a server answers with status 400.
        """
        try:
            answers = self.deployed([_picture(value) for value in images[COLUMN]])
        except UserError as error:
            from mlflow.exceptions import MlflowException

            raise MlflowException.invalid_parameter_value(str(error)) from error
        return [self.answer(probabilities) for probabilities in answers]

    def answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        """The answer for an image with these probabilities, float32 [classes]."""
        deployed = self.deployed
        every = dict(zip(deployed.classes, map(float, probabilities), strict=True))
        best = named(probabilities, deployed.classes, deployed.thresholds, deployed.unknown_below)
        if deployed.thresholds is not None:
            return {"labels": dict(best), "probabilities": every}
        return {"class": best[0][0], "probability": best[0][1], "probabilities": every}


def _picture(value: Any) -> bytes | Path | Image.Image:
    # Text is never a path: clients of a server must not be able to read its files.
    if not isinstance(value, str):
        return value
    text = value.partition(",")[2] if value.startswith("data:") else value
    # `base64 FILE` breaks its lines.
    text = "".join(text.split())
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(f"'{value[:40]}' is not an image file in base64.") from error
