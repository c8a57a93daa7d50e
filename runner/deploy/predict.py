"""Classifying any number of images, preprocessed as in training. Imports Paddle only for Paddle's files."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import CheckpointError, DataError
from ..images import Preparation
from . import engines, manifest, picture_forms
from .picture_forms import Picture

#: Batch size. Engines gain nothing from more, and their memory grows with it.
BATCH = 32
#: The answer for an image that no class is probable enough for.
UNKNOWN = "unknown"
#: An image that is preprocessed in less than this many seconds is not worth a thread: threads would wait for Python's
#: lock longer than that.
QUICK_S = 300e-6


class Classifier(Protocol):
    """A network with its preprocessing and classes."""

    classes: list[str]
    """Names of the classes, in the order of the probabilities."""
    thresholds: np.ndarray | None
    """Multi-label: probability from which each label is predicted, float32 [classes]; else None."""
    unknown_below: float | None
    """Probability of the most probable class below which an image is `UNKNOWN`; None: it never is."""
    preparation: Preparation
    """The preprocessing of a picture up to normalisation."""
    concurrent: bool
    """Whether `compute` may be called by several threads at once."""

    def prepare(self, picture: Picture) -> np.ndarray:
        """One preprocessed entry of a batch. Errors: DataError naming what is not an image."""
        ...

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """Probabilities of a batch: float32 [N, classes]."""
        ...


class Deployed:
    """A file of an export folder in its engine, ready for images."""

    concurrent = True

    def __init__(self, folder: Path, path: str | None = None, threads: int = 1, engine: str | None = None) -> None:
        """Open the recommended file, or the one of a path or an engine. Errors: CheckpointError, ConfigError."""
        self.manifest = manifest.read(folder)
        self.file = self.manifest.of_engine(engine, folder) if engine else self.manifest.file(path)
        self.engine = engines.open_(folder, self.manifest, self.file, threads)
        self.classes = self.manifest.classes
        many = self.manifest.labels == "many"
        self.thresholds = np.array(self.manifest.thresholds, dtype=np.float32) if many else None
        self.unknown_below = self.manifest.unknown_below
        self.preparation = self.manifest.preparation
        # The arithmetic of `data.Normalize`: another order would change the last bits.
        scales = [1 / (255 * std) for std in self.manifest.std]
        shifts = [-mean / std for mean, std in zip(self.manifest.mean, self.manifest.std, strict=True)]
        self.scales, self.shifts = (np.array(values, dtype=np.float32)[:, None, None] for values in (scales, shifts))

    def __call__(self, pictures: Sequence[Picture], batch_size: int = BATCH) -> np.ndarray:
        """Probabilities of images: float32 [N, classes]. Errors: DataError naming a file that is not an image."""
        parts = [np.empty((0, len(self.classes)), dtype=np.float32)]
        for answer in answers(self, pictures, batch_size):
            if answer.probabilities is None:
                raise DataError(answer.error)
            parts.append(answer.probabilities[None])
        return np.concatenate(parts)

    def prepare(self, picture: Picture) -> np.ndarray:
        """The network's input for an image: float32 [C, H, W], (x / 255 - mean) / std. Errors: DataError."""
        pixels = picture_forms.prepared(picture, self.preparation).transpose(2, 0, 1)
        values = np.multiply(pixels, self.scales, out=np.empty(pixels.shape, dtype=np.float32))
        values += self.shifts
        return values

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """float32 [N, C, H, W] to probabilities, float32 [N, classes]. Errors: CheckpointError, as `probabilities`."""
        of = f"{self.file.path} in {self.engine.name}"
        return probabilities(self.engine(batch), self.thresholds is not None, self.manifest.temperature, of)


@dataclass
class Answer:
    """A network's answer for one image."""

    picture: Picture
    probabilities: np.ndarray | None
    """float32 [classes]."""
    error: str = ""
    """Why there are none: what is wrong with the image, with its name."""


def answers(
    classifier: Classifier, pictures: Iterable[Picture], batch_size: int = BATCH, workers: int | None = None
) -> Iterator[Answer]:
    """An answer for each image, in order; one that cannot be read does not affect the others.

    Threads preprocess ahead of the network, and run it too if it can be called by several. Only a few batches are in
    memory at a time. `workers` None: a thread for each core.
    """
    workers = workers or cores()
    one_at_a_time, is_quick = threading.Lock(), True
    ahead: deque[Future[tuple[list[Picture], list[str], np.ndarray | None]]] = deque()
    parts = _parts(iter(pictures), batch_size, workers)

    def compute(batch: np.ndarray | None) -> np.ndarray | None:
        return None if batch is None else classifier.compute(batch)

    def prepared(part: list[Picture]) -> tuple[list[str], np.ndarray | None]:
        nonlocal is_quick
        with one_at_a_time if is_quick else contextlib.nullcontext():
            began = time.perf_counter()
            result = _prepared(classifier, part)
            is_quick = is_quick and time.perf_counter() - began <= QUICK_S * len(part)
        return result

    def work(part: list[Picture]) -> tuple[list[Picture], list[str], np.ndarray | None]:
        errors, batch = prepared(part)
        return part, errors, compute(batch) if classifier.concurrent else batch

    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                ahead.extend(pool.submit(work, part) for part in islice(parts, 2 * workers - len(ahead)))
                if not ahead:
                    return
                part, errors, result = ahead.popleft().result()
                result = result if classifier.concurrent else compute(result)
                probabilities = iter(() if result is None else result)
                for picture, error in zip(part, errors, strict=True):
                    yield Answer(picture, None if error else next(probabilities), error)
        finally:
            for future in ahead:
                future.cancel()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parts(pictures: Iterator[Picture], batch_size: int, workers: int) -> Iterator[list[Picture]]:
    """Batches; few images, and the last ones, are divided among the workers."""
    while block := list(islice(pictures, batch_size * workers)):
        size = min(batch_size, -(-len(block) // workers))
        yield from (block[begin : begin + size] for begin in range(0, len(block), size))


def _prepared(classifier: Classifier, pictures: list[Picture]) -> tuple[list[str], np.ndarray | None]:
    """The error of each image, and a batch of the images without one; None if there are none."""
    prepared, errors = [], []
    for picture in pictures:
        try:
            prepared.append(classifier.prepare(picture))
            errors.append("")
        except DataError as error:
            # The error itself would keep the image in memory.
            errors.append(str(error))
    return errors, np.stack(prepared) if prepared else None


def most_probable(probabilities: np.ndarray, thresholds: np.ndarray | None) -> np.ndarray:
    """Class indices sorted by descending probability, int64; with thresholds only those that are predicted.

    Both float32 [classes].
    """
    places = np.argsort(-probabilities, kind="stable")
    return places if thresholds is None else places[(probabilities >= thresholds)[places]]


def named(
    probabilities: np.ndarray, classes: Sequence[str], thresholds: np.ndarray | None, unknown_below: float | None
) -> list[tuple[str, float]]:
    """Classes with their probabilities, float32 [classes], in descending order; with thresholds only predicted labels.

    An unknown image is `UNKNOWN` first, with the probability of the most probable class, which follows.
    """
    best = [(classes[place], float(probabilities[place])) for place in most_probable(probabilities, thresholds)]
    if unknown_below is not None and best[0][1] < np.float32(unknown_below):
        return [(UNKNOWN, best[0][1]), *best]
    return best


def probabilities(
    logits: np.ndarray, many: bool = False, temperature: float | None = None, of: str = "The network"
) -> np.ndarray:
    """Probabilities from logits, float32 [N, classes], of the same shape; with `many` labels are independent.

    Errors: CheckpointError, which names whose they are, for logits that are not finite.
    """
    if temperature is not None and not many:
        logits = logits / np.float32(temperature)
    if not np.isfinite(logits).all():
        raise CheckpointError(
            f"{of} gives logits that are not finite (NaN or infinite), so there are no probabilities: its weights are "
            "damaged, or too large for float16. Export it again, or use another file or engine."
        )
    return sigmoid(logits) if many else softmax(logits)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float32 [N, classes] to probabilities of the same shape."""
    powers = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, powers) / (1 + powers)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32 [N, classes] to probabilities of the same shape."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
