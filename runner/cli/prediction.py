"""Predictions of the Python API: their pictures, and the answer for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import DataError
from . import pictures

if TYPE_CHECKING:
    from ..deploy.predict import Answer, Classifier

#: What can be classified: a path, the content of a file, Pillow's image, or uint8 [H, W] or [H, W, C].
Picture = str | os.PathLike[str] | bytes | Image.Image | np.ndarray


@dataclass(frozen=True)
class Prediction:
    """A network's prediction for one picture."""

    picture: str | int
    """Its path, or its index from 0 if it has none."""
    label: str | None
    """The most probable class, `unknown` if it is not probable enough; None if the picture cannot be read, or for
    multi-label data if no label is predicted."""
    probability: float
    """Its probability; 0 without a label."""
    labels: tuple[str, ...] = field(repr=False)
    """All labels, the most probable first: one, unless the data is multi-label."""
    probabilities: np.ndarray | None = field(repr=False, compare=False)
    """float32 [classes], in the order of `Run.classes`; None if the picture cannot be read."""
    error: str = ""
    """Why it cannot be read."""


def each(source: Picture | Iterable[Picture]) -> Iterator[Any]:
    """The pictures in order, lazily."""
    match source:
        case str() | os.PathLike():
            source = pictures.find([os.fspath(source)])
        case bytes() | Image.Image():
            source = [source]
        case np.ndarray() if source.ndim < 4:
            source = [source]
    yield from source


class TakingArrays:
    """A classifier that takes arrays as well, converted one by one as its pictures are prepared."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.classes, self.thresholds = classifier.classes, classifier.thresholds
        self.unknown_below, self.concurrent = classifier.unknown_below, classifier.concurrent

    def prepare(self, picture: Any) -> np.ndarray:
        """One preprocessed entry of a batch. Errors: DataError naming what is not an image."""
        return self.classifier.prepare(_image(picture) if isinstance(picture, np.ndarray) else picture)

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities of a batch: float32 [N, classes]."""
        return self.classifier.compute(batch)


def _image(array: np.ndarray) -> Image.Image:
    """Errors: DataError."""
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise DataError(
            f"An array is {array.dtype} {list(array.shape)}: pictures are uint8 [H, W], or [H, W, C] with 1, 3 or 4 "
            "channels, with values of 0 to 255."
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.ndim == 3 and channels == 1 else array))


def prediction_of(number: int, answer: Answer, classifier: Classifier) -> Prediction:
    """The prediction in a classifier's answer to the picture of this index."""
    from ..deploy.predict import named

    picture = os.fspath(answer.picture) if isinstance(answer.picture, (str, os.PathLike)) else number
    if answer.probabilities is None:
        return Prediction(picture, None, 0.0, (), None, answer.error)
    best = named(answer.probabilities, classifier.classes, classifier.thresholds, classifier.unknown_below)
    labels = tuple(name for name, _ in (best[:1] if classifier.thresholds is None else best))
    probability = best[0][1] if best else 0.0
    return Prediction(picture, labels[0] if labels else None, probability, labels, answer.probabilities)
