"""Predictions of the Python API: their pictures, and the answer for each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..deploy.picture_forms import FORMS, Picture, is_file
from ..errors import ConfigError
from . import pictures
from .undisturbed import undisturbed

if TYPE_CHECKING:
    from ..deploy.predict import Answer, Classifier


#: Most classes whose probabilities are in the text of a prediction.
SHORT = 10


@dataclass(frozen=True, repr=False)
class Prediction:
    """A network's prediction for one picture."""

    picture: str | int
    """Its path, or its index from 0 if it has none."""
    label: str | None
    """The most probable class, `unknown` if it is not probable enough; None if the picture cannot be read, or for
    multi-label data if no label is predicted."""
    probability: float
    """Its probability; 0 without a label."""
    labels: tuple[str, ...]
    """All labels, the most probable first: one, unless the data is multi-label."""
    probabilities: np.ndarray | None = field(compare=False)
    """float32 [classes], in the order of `Run.classes`; None if the picture cannot be read."""
    error: str = ""
    """Why it cannot be read."""

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"picture": self.picture, "label": self.label, "probability": self.probability}
        if len(self.labels) > 1:
            shown["labels"] = self.labels
        if self.probabilities is not None and len(self.probabilities) <= SHORT:
            shown["probabilities"] = [round(float(one), 4) for one in self.probabilities]
        if self.error:
            shown["error"] = self.error
        return f"Prediction({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def each(source: Picture | Iterable[Picture]) -> Iterator[Any]:
    """The pictures in order, lazily. Errors, at once: DataError, ConfigError for what is neither one nor several."""
    match source:
        case str() | os.PathLike():
            return pictures.find([os.fsdecode(source)])
        case np.ndarray() if source.dtype.kind in "OSU":
            return iter(source.ravel().tolist())
        case np.ndarray() if source.ndim == 4:
            return iter(source)
        case bytes() | bytearray() | memoryview() | Image.Image() | np.ndarray():
            return iter([source])
        case _ if is_file(source):
            return iter([source])
        case Iterable() if not isinstance(source, Mapping):
            return iter(source)
    raise ConfigError(
        f"A value of type {type(source).__name__} is not a picture. Give {FORMS}, or several of them as a list."
    )


class Undisturbed:
    """A classifier whose network computes without side effects on the program, which goes on between its batches."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier, self.prepare = classifier, classifier.prepare
        self.classes, self.thresholds = classifier.classes, classifier.thresholds
        self.preparation, self.unknown_below = classifier.preparation, classifier.unknown_below
        self.concurrent = classifier.concurrent

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities of a batch: float32 [N, classes]."""
        # Engines that several threads may use touch nothing of the program.
        with contextlib.nullcontext() if self.concurrent else undisturbed():
            return self.classifier.compute(batch)


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
