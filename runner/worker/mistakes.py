"""The images a network was most wrong about, kept with the run: a report shows them without the data set."""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import files
from ..data import Images, Split
from ..runs.journal import MISTAKES
from ..training.evaluation import Predictions

#: How many are kept, and the longest side they are kept with, in pixels.
KEPT, SIDE = 24, 128


@dataclass
class Mistake:
    """One image that was taken for another class."""

    index: int
    """Which image of the split."""
    label: str
    """Its class."""
    predicted: str
    """The class it was taken for."""
    confidence: float
    """Probability that the network gave the wrong class."""
    png: str
    """The image as training saw it before augmentation: PNG in base64."""


def worst(predictions: Predictions, split: Split, classes: list[str], count: int = KEPT) -> list[Mistake]:
    """The wrong predictions of the highest confidence, the worst first."""
    return [
        Mistake(
            int(predictions.indices[place]),
            classes[predictions.labels[place]],
            classes[predictions.classes[place]],
            float(predictions.confidence[place]),
            _png(picture(split, int(predictions.indices[place]))),
        )
        for place in predictions.worst(count)
    ]


def write(directory: Path, predictions: Predictions, split: Split, classes: list[str]) -> None:
    """Keep the worst mistakes of a split, and how many there were, with a run."""
    entries = [asdict(mistake) for mistake in worst(predictions, split, classes)]
    content = {"images": len(predictions.labels), "wrong": predictions.wrong, "worst": entries}
    files.write_text(directory / MISTAKES, files.to_json(content))


def picture(split: Split, index: int) -> np.ndarray:
    """An image of a split: uint8 [S, S] or [S, S, 3]."""
    match split:
        case Images(images=images):
            return images[index].squeeze()
        case _:
            return split.decode(index)


def _png(image: np.ndarray) -> str:
    small = Image.fromarray(image)
    small.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    small.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
