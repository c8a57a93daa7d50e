"""Comparing exported files with the network they were made from, on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import paddle

from .. import terminal
from ..compression import snr
from ..data import Batch
from ..errors import CheckpointError, telling_line
from ..training.evaluation import untouched
from . import engines
from .manifest import OPENVINO, ExportedFile, Manifest
from .subject import Subject

#: Tolerances of a float file: least fraction of images with the trained network's top-1, and largest difference of a
#: logit relative to the largest logit (at least 1).
FLOAT_AGREEMENT, FLOAT_DIFFERENCE = 1.0, 1e-3
#: Logits that differ by less than this fraction of the largest one count as equal.
TIE = 1e-5
#: Cap of the ratio, as JSON has no infinity.
MOST_DB = 200.0
#: Batch size of the comparison.
COMPARED_AT_ONCE = 32


def _parts(batch: Batch) -> Iterator[tuple[paddle.Tensor, np.ndarray]]:
    """(images, labels) of a batch in parts small enough for the memory of the network and of every engine."""
    labels = batch.labels.numpy()
    for begin in range(0, len(labels), COMPARED_AT_ONCE):
        part = slice(begin, begin + COMPARED_AT_ONCE)
        yield batch.images[part], labels[part]


def compare(folder: Path, manifest: Manifest, subject: Subject, batches: Iterable[Batch]) -> list[str]:
    """Run every file on the images and record in it how far it agrees with the network. Returns notes for the user.

    Errors: CheckpointError for a float file of a float network beyond the tolerance.
    """
    runnable, running, notes = _opened(folder, manifest, subject.config.deploy.threads)
    count, largest, many = 0, 1.0, subject.config.data.many
    agreeing, correct, differences, not_finite = np.zeros((4, len(running)))
    powers = np.zeros((len(running), 2))
    # A label is predicted where its logit reaches that of its threshold; above 1 - 2^-25 a float32 probability is 1.
    thresholds = np.minimum(subject.thresholds, 1 - 2.0**-25)
    bounds = np.log(thresholds) - np.log1p(-thresholds) if many else None
    with untouched(subject.network):
        for part, labels in itertools.chain.from_iterable(map(_parts, batches)):
            expected = subject.network(part).numpy()
            images = part.numpy()
            count, largest = count + len(images), max(largest, float(np.abs(expected).max()))
            for place, engine in enumerate(running):
                if (outputs := _outputs(engine, images, runnable[place], manifest, notes)) is None:
                    continue
                agrees, right = _compared(outputs, expected, labels, bounds)
                agreeing[place], correct[place] = agreeing[place] + agrees, correct[place] + right
                not_finite[place] += len(outputs) - np.isfinite(outputs).all(1).sum()
                # NumPy's maximum propagates NaN; Python's depends on the order.
                differences[place] = np.maximum(differences[place], np.abs(outputs - expected).max())
                powers[place] += snr.powers(expected, outputs)
    apart: dict[float, list[str]] = {}
    for place, file in enumerate(runnable):
        if file not in manifest.files:
            continue
        file.agreement, right = float(agreeing[place] / max(1, count)), float(correct[place] / max(1, count))
        file.top1, file.hamming_loss = (None, 1 - right) if many else (right, None)
        file.max_difference = float(differences[place])
        file.snr_db = min(snr.decibels(*powers[place]), MOST_DB)
        if subject.config.compression.quantize is None and file.precision == "float32":
            notes += _check_float(file, count, FLOAT_DIFFERENCE * largest)
        elif not_finite[place]:
            images = f"{not_finite[place]:.0f} of {terminal.counted(count, 'test image')}"
            notes.append(f"{_named(file)}: the logits of {images} are not finite; use another file")
        elif file.agreement < subject.config.deploy.agreement:
            apart.setdefault(file.agreement, []).append(_named(file))
    measured = ("the labels of " if many else "") + terminal.counted(count, "test image")
    return notes + [
        f"{', '.join(named)}: agreement with the trained network is {agreement:.1%} of {measured}, "
        f"less than deploy.agreement={subject.config.deploy.agreement:g}; {_apart(agreement, count, many)}"
        for agreement, named in apart.items()
    ]


def _apart(agreement: float, count: int, many: bool) -> str:
    """What an agreement means in images."""
    if many:
        return "the rest of the labels are decided otherwise"
    others = round((1 - agreement) * count)
    return f"{terminal.counted(others, 'image')} {terminal.word_for(others, 'gets', 'get')} another class"


def _opened(
    folder: Path, manifest: Manifest, threads: int
) -> tuple[list[ExportedFile], list[engines.Engine], list[str]]:
    """Files with their engines, and notes. Files that OpenVINO cannot open are removed from the manifest."""
    running, notes = [], []
    for file in [file for file in manifest.files if file.engine]:
        try:
            running.append((file, engines.open_(folder, manifest, file, threads)))
        except CheckpointError as error:
            if file.engine != OPENVINO:
                raise
            notes.append(_omitted(file, manifest, error))
    return [file for file, _ in running], [engine for _, engine in running], notes


def _outputs(
    engine: engines.Engine, images: np.ndarray, file: ExportedFile, manifest: Manifest, notes: list[str]
) -> np.ndarray | None:
    """The logits of a file, float32 [n, K]; None, with a note the first time, if OpenVINO cannot compute it."""
    if file not in manifest.files:
        return None
    try:
        return engine(images)
    except Exception as error:
        if file.engine != OPENVINO:
            raise
        # OpenVINO's errors have no base class but Exception.
        notes.append(_omitted(file, manifest, f"{_named(file)} computes nothing: {telling_line(error).rstrip('.')}."))
        return None


def _omitted(file: ExportedFile, manifest: Manifest, why: object) -> str:
    """Take a file in OpenVINO out of the manifest; returns a note."""
    manifest.files.remove(file)
    manifest.not_in_openvino.append(file.path)
    return f"{why} OpenVINO is omitted."


def _named(file: ExportedFile) -> str:
    return f"{file.path} in OpenVINO" if file.engine == OPENVINO else file.path


def _compared(
    outputs: np.ndarray, expected: np.ndarray, labels: np.ndarray, bounds: np.ndarray | None
) -> tuple[float, float]:
    """Number of images on which a file decides as the network does (up to rounding), and correctly.

    outputs, expected: float32 [n, K]; labels: int64 [n]. Multi-label, with `bounds` float [K] and labels uint8 [n, K],
    an image counts by its fraction of labels. Without finite logits nothing is decided.
    """
    finite = np.isfinite(outputs).all(1)
    rounding = TIE * np.abs(expected).max(1)
    if bounds is not None:
        decided = outputs >= bounds
        agrees = (decided == (expected >= bounds)) | (np.abs(expected - bounds) <= rounding[:, None])
        return float(agrees.mean(1)[finite].sum()), float((decided == labels).mean(1)[finite].sum())
    classes = outputs.argmax(1)
    chosen = np.take_along_axis(expected, classes[:, None], 1)[:, 0]
    agrees, right = chosen >= expected.max(1) - rounding, classes == labels
    return float((agrees & finite).sum()), float((right & finite).sum())


def _check_float(file: ExportedFile, count: int, tolerance: float) -> list[str]:
    """Notes. Errors: CheckpointError, except in OpenVINO, which may compute a correct file wrongly."""
    assert file.agreement is not None
    assert file.max_difference is not None
    if file.agreement < FLOAT_AGREEMENT or not file.max_difference <= tolerance:
        wrong = (
            f"{_named(file)} is not the trained network: on {terminal.counted(count, 'test image')} it agrees in "
            f"{file.agreement:.2%} of the classes, and logits differ by up to {file.max_difference:.2g} "
            f"(tolerance {tolerance:.2g})"
        )
        if file.engine == OPENVINO:
            return [wrong]
        raise CheckpointError(f"{wrong}. Export to another format: deploy.formats=[paddle]")
    return []
