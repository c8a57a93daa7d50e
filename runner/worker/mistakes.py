"""The images a network was most wrong about, kept with the run: a report shows them without the data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from .. import files
from ..data import Split
from ..data.labels import label_text
from ..data.splits import picture
from ..images import png
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
    """Its class, or its many: `cat, dog`."""
    predicted: str
    """The class it was taken for."""
    confidence: float
    """Probability that the network gave the wrong class; of many labels its surest decision that is wrong."""
    png: str
    """The image as training saw it before augmentation: PNG in base64."""
    name: str
    """What it is called: the name of its file, where it has one."""


def worst(predictions: Predictions, split: Split, classes: list[str], count: int = KEPT) -> list[Mistake]:
    """The wrong predictions of the highest confidence, the worst first."""
    return [
        Mistake(
            int(predictions.indices[place]),
            label_text(predictions.labels[place], classes),
            label_text(predictions.classes[place], classes),
            float(predictions.confidence[place]),
            png(picture(split, int(predictions.indices[place])), SIDE),
            split.name(int(predictions.indices[place])),
        )
        for place in predictions.worst(count)
    ]


def write(directory: Path, predictions: Predictions, split: Split, classes: list[str]) -> None:
    """Keep the worst mistakes of a split, and how many there were, with a run."""
    entries = [asdict(mistake) for mistake in worst(predictions, split, classes)]
    content = {"images": len(predictions.labels), "wrong": predictions.wrong, "worst": entries}
    files.write_text(directory / MISTAKES, files.to_json(content))
