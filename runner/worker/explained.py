"""Explanations by Grad-CAM: maps of a network's worst mistakes, or of any pictures."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import matplotlib
import numpy as np
import paddle
from paddle import nn
from PIL import Image

from ..data import Normalize, Split
from ..data.labels import label_text
from ..data.splits import picture
from ..deploy.predict import most_probable, probabilities
from ..images import png
from ..runs.explained import Explanation, Map
from ..training import gradcam
from ..training.evaluation import Predictions, untouched
from .finished import Classifier

#: Batch size, longest side of stored images and of maps, and most maps of an image.
BATCH, SIDE, MAP_SIDE, MOST_MAPS = 8, 256, 128, 4
#: Opacity of the strongest evidence over a picture.
OPACITY = 0.62


@dataclass
class Explainer:
    """A network whose predictions are explained."""

    network: nn.Layer
    place: gradcam.Place
    normalize: Normalize
    classes: list[str]
    thresholds: np.ndarray | None = None
    """Multi-label: probability from which each label is predicted, float32 [K]; else None."""
    temperature: float | None = None
    """Divisor of the logits; None: 1."""

    @classmethod
    def of(cls, classifier: Classifier, place: gradcam.Place) -> Explainer:
        """The explainer of a classifier's predictions."""
        return cls(
            classifier.network, place, classifier.normalize, classifier.classes, classifier.thresholds,
            classifier.temperature,
        )  # fmt: skip

    def pictures(
        self, named_pictures: Iterable[tuple[str, np.ndarray]], chosen_class: int | None = None
    ) -> Iterator[Explanation]:
        """Names and pictures, uint8 [H, W, C], with maps for their predicted classes and for `chosen_class`."""
        numbered = enumerate(named_pictures)
        while part := list(islice(numbered, BATCH)):
            yield from self._explained([(number, name, pixels, None) for number, (name, pixels) in part], chosen_class)

    def mistakes(self, split: Split, predictions: Predictions, count: int) -> Iterator[Explanation]:
        """The worst mistakes on a split with maps for the predicted and the true class."""
        places = iter(predictions.worst(count))
        while part := list(islice(places, BATCH)):
            indices = [int(predictions.indices[place]) for place in part]
            yield from self._explained([
                (index, split.name(index), picture(split, index), predictions.labels[place])
                for index, place in zip(indices, part, strict=True)
            ])  # fmt: skip

    def _explained(
        self, part: Sequence[tuple[int, str, np.ndarray, np.ndarray | None]], chosen_class: int | None = None
    ) -> list[Explanation]:
        images = self.normalize(np.stack([pixels for _, _, pixels, _ in part]), np.arange(len(part)))
        with untouched(self.network):
            answers = self._probabilities(self.network(images).astype("float32"))
        wanted = [
            self._wanted(answer, label, chosen_class) for answer, (_, _, _, label) in zip(answers, part, strict=True)
        ]  # fmt: skip
        classes = np.full((len(part), max(map(len, wanted))), gradcam.NONE, dtype=np.int64)
        for row, own in zip(classes, wanted, strict=True):
            row[: len(own)] = list(own)
        maps, _ = gradcam.grad_cam(self.network, self.place, images, classes)
        return [
            Explanation(
                index,
                [
                    self._map(number, role, float(answer[number]), cam, pixels)
                    for (number, role), cam in zip(own.items(), cams, strict=False)
                ],
                name,
                "" if label is None else label_text(label, self.classes),
                label_text(self._predicted(answer), self.classes),
                png(pixels, SIDE),
                self._second(answer),
            )
            for (index, name, pixels, label), answer, own, cams in zip(part, answers, wanted, maps, strict=True)
        ]

    def _map(self, number: int, role: str, probability: float, cam: np.ndarray, pixels: np.ndarray) -> Map:
        height, width, _ = pixels.shape
        return Map(self.classes[number], role, probability, bool(cam.max() > 0), overlay(cam, (width, height)))

    def _probabilities(self, logits: paddle.Tensor) -> np.ndarray:
        return probabilities(logits.numpy(), self.thresholds is not None, self.temperature)

    def _predicted(self, answer: np.ndarray) -> np.ndarray:
        """The predicted class, int64 []; multi-label: uint8 [K]."""
        if self.thresholds is None:
            return np.array(answer.argmax())
        return (answer >= self.thresholds).astype(np.uint8)

    def _second(self, answer: np.ndarray) -> tuple[str, float] | None:
        """The second most probable class with its probability; multi-label: None."""
        if self.thresholds is not None or len(answer) < 2:
            return None
        place = most_probable(answer, None)[1]
        return self.classes[place], float(answer[place])

    def _wanted(self, answer: np.ndarray, label: np.ndarray | None, chosen_class: int | None) -> dict[int, str]:
        """Class → why it is explained; multi-label: those that the network gets wrong come first."""
        if self.thresholds is None:
            predicted = {int(answer.argmax())}
            true = set() if label is None else {int(label)}
        else:
            predicted = set(np.flatnonzero(self._predicted(answer)).tolist())
            true = set() if label is None else set(np.flatnonzero(label).tolist())
        order = sorted(predicted | true, key=lambda one: (label is not None and one in predicted & true, -answer[one]))
        if self.thresholds is None:
            order = [*predicted, *(true - predicted)]
        roles = {
            one: "predicted and true" if one in predicted & true else "predicted" if one in predicted else "true"
            for one in order[:MOST_MAPS]
        }
        if not roles and chosen_class is None:
            # No label was predicted: explain the most probable one instead.
            roles = {int(answer.argmax()): "most probable"}
        return roles if chosen_class is None or chosen_class in roles else roles | {chosen_class: "asked for"}


def overlay(cam: np.ndarray, size: tuple[int, int]) -> str:
    """A map, float32 [h, w] of at least 0, as an overlay for a picture of (width, height): PNG with alpha in base64.

    The largest value is the most opaque; scaled bilinearly. An all-zero map is invisible.
    """
    scale = min(1.0, MAP_SIDE / max(size))
    scaled = Image.fromarray(cam / max(float(cam.max()), 1e-30)).resize(
        (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BILINEAR
    )
    image = Image.fromarray(np.round(255 * np.asarray(scaled).clip(0, 1)).astype(np.uint8), "P")
    colours, alphas = _palette()
    image.putpalette(colours)
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, transparency=alphas)
    return base64.b64encode(stream.getvalue()).decode()


@functools.cache
def _palette() -> tuple[bytes, bytes]:
    """RGB and opacity of 256 levels."""
    levels = np.linspace(0, 1, 256)
    colours = np.round(255 * matplotlib.colormaps["turbo"](levels)[:, :3]).astype(np.uint8)
    return colours.tobytes(), np.round(255 * OPACITY * np.sqrt(levels)).astype(np.uint8).tobytes()
