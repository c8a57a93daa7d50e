"""Exported files beside the network that they were made of: each runs on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import paddle

from ..data import Batch
from ..errors import CheckpointError
from ..training.evaluation import untouched
from . import engines
from .manifest import OPENVINO, ExportedFile, Manifest
from .subject import Subject

#: What a float file may differ by: part of the images with the trained network's top-1, and largest difference of a
#: logit as a part of the largest logit (at least of 1).
FLOAT_AGREEMENT, FLOAT_DIFFERENCE = 1.0, 1e-3
#: Two logits that differ by less than this part of the largest one are equal but for rounding.
TIE = 1e-5
#: Images that are compared at once.
COMPARED_AT_ONCE = 32


def _parts(batch: Batch) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
    """(images, labels) of a batch in parts that need little memory in the network and in every engine."""
    labels = batch.labels.numpy()
    for begin in range(0, len(labels), COMPARED_AT_ONCE):
        part = slice(begin, begin + COMPARED_AT_ONCE)
        yield batch.images[part], labels[part]


def compare(folder: Path, manifest: Manifest, subject: Subject, batches: Iterable[Batch]) -> list[str]:
    """Run every file on the images and note in it how far it agrees with the network. What a person should know of it.

    Errors: CheckpointError for a float file of a float network beyond the tolerance.
    """
    runnable, running, notes = _opened(folder, manifest, subject.config.deploy.threads)
    count, largest, many = 0, 1.0, subject.config.data.many
    agreeing, correct, differences = np.zeros((3, len(running)))
    # A label is decided where its logit reaches that of its threshold. In float32 a probability is 1 from there on.
    thresholds = np.minimum(subject.thresholds, 1 - 2.0**-25)
    bounds = np.log(thresholds) - np.log1p(-thresholds) if many else None
    with untouched(subject.network):
        for part, labels in itertools.chain.from_iterable(map(_parts, batches)):
            expected = subject.network(part).numpy()
            images = part.numpy()
            count, largest = count + len(images), max(largest, float(np.abs(expected).max()))
            for place, engine in enumerate(running):
                outputs = engine(images)
                agrees, right = _compared(outputs, expected, labels, bounds)
                agreeing[place], correct[place] = agreeing[place] + agrees, correct[place] + right
                # Of a number and none NumPy's is none, Python's whichever comes first.
                differences[place] = np.maximum(differences[place], np.abs(outputs - expected).max())
    for place, file in enumerate(runnable):
        file.agreement, right = float(agreeing[place] / max(1, count)), float(correct[place] / max(1, count))
        file.top1, file.hamming_loss = (None, 1 - right) if many else (right, None)
        file.max_difference = float(differences[place])
        if subject.config.compression.quantize is None and file.precision == "float32":
            notes += _check_float(file, count, FLOAT_DIFFERENCE * largest)
        elif file.agreement < subject.config.deploy.agreement:
            what, images = ("decision", "labels of ") if many else ("class", "")
            notes.append(
                f"{_named(file)} has the trained network's {what} for {file.agreement:.1%} of {images}{count} test "
                f"images only (deploy.agreement={subject.config.deploy.agreement:g})"
            )
    return notes


def _opened(
    folder: Path, manifest: Manifest, threads: int
) -> tuple[list[ExportedFile], list[engines.Engine], list[str]]:
    """Files with their engines, and notes. What OpenVINO cannot open is taken out of the manifest."""
    running, notes = [], []
    for file in [file for file in manifest.files if file.engine]:
        try:
            running.append((file, engines.open_(folder, file, threads)))
        except CheckpointError as error:
            if file.engine != OPENVINO:
                raise
            manifest.files.remove(file)
            notes.append(f"{error} OpenVINO is left out.")
    return [file for file, _ in running], [engine for _, engine in running], notes


def _named(file: ExportedFile) -> str:
    return f"{file.path} in OpenVINO" if file.engine == OPENVINO else file.path


def _compared(
    outputs: np.ndarray, expected: np.ndarray, labels: np.ndarray, bounds: np.ndarray | None
) -> tuple[float, float]:
    """Images for which a file decides as the network does, but for rounding; and rightly.

    outputs, expected: float32 [n, K]; labels: int64 [n]. With the `bounds` of many labels, float [K] and uint8 [n, K],
    an image counts by the part of its labels.
    """
    rounding = TIE * np.abs(expected).max(1)
    if bounds is not None:
        decided = outputs >= bounds
        agrees = (decided == (expected >= bounds)) | (np.abs(expected - bounds) <= rounding[:, None])
        return float(agrees.mean(1).sum()), float((decided == labels).mean(1).sum())
    classes = outputs.argmax(1)
    chosen = np.take_along_axis(expected, classes[:, None], 1)[:, 0]
    return float((chosen >= expected.max(1) - rounding).sum()), float((classes == labels).sum())


def _check_float(file: ExportedFile, count: int, tolerance: float) -> list[str]:
    """Notes. Errors: CheckpointError, for a file that onnxruntime reads wrongly is wrong itself."""
    assert file.agreement is not None
    assert file.max_difference is not None
    if file.agreement < FLOAT_AGREEMENT or not file.max_difference <= tolerance:
        wrong = (
            f"{_named(file)} is not the trained network: on {count} test images it agrees in {file.agreement:.2%} of "
            f"the classes, and logits differ by up to {file.max_difference:.2g} (tolerance {tolerance:.2g})"
        )
        if file.engine == OPENVINO:
            return [wrong]
        raise CheckpointError(f"{wrong}. Export to another format: deploy.formats=[paddle]")
    return []
