"""The most confident mistakes of a network, stored with the run so that a report shows them without the data set."""

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

#: How many are stored, and their longest side in pixels.
KEPT, SIDE = 24, 128


@dataclass
class Mistake:
    """One misclassified image."""

    index: int
    """Index of the image in the split."""
    label: str
    """Its class; multi-label: its labels, `cat, dog`."""
    predicted: str
    """The class that was predicted."""
    confidence: float
    """Probability of the predicted class; multi-label: confidence of the most confident wrong decision."""
    png: str
    """The preprocessed image without augmentation: PNG in base64."""
    name: str
    """The name of its file, if it has one."""


def worst(predictions: Predictions, split: Split, classes: list[str], count: int = KEPT) -> list[Mistake]:
    """The wrong predictions with the highest confidence, the worst first."""
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
    """Store the worst mistakes of a split, and their total number, with a run."""
    entries = [asdict(mistake) for mistake in worst(predictions, split, classes)]
    content = {"images": len(predictions.labels), "wrong": predictions.wrong, "worst": entries}
    files.write_text(directory / MISTAKES, files.to_json(content))
