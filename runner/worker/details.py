"""What a finished run keeps beside its metrics: plots, numbers of each class, the worst mistakes, compression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import files, terminal
from ..compression import qat, slim
from ..config.monitor import prominent
from ..metrics import of_classes
from ..runs import explained as explanations
from ..runs.journal import EXPLAINED, MISTAKES, PER_CLASS, PLOTS, Journal
from ..runs.result import Calibration
from ..training import curves, gradcam
from ..training.evaluation import Evaluation
from ..training.thresholds import USUAL
from . import mistakes
from .experiment import Experiment
from .notes import errors_as_notes, tell

#: The file with the effects of compression, next to the results.
COMPRESSION = "compression.json"


@dataclass
class Tested:
    """How good the best weights are."""

    evaluation: Evaluation
    calibrations: dict[str, Calibration]
    """By network, where there are validation images."""
    thresholds: dict[str, list[float]]
    """Network → multi-label threshold of each class."""


def write(directory: Path, run: Experiment, tested: Tested, journal: Journal) -> None:
    """Write all of them but the plots. Errors: OSError for a full disk; else a picture that fails is a note."""
    predictions = tested.evaluation.predictions["student"]
    split, classes = run.training.loaders.test.split, run.training.loaders.classes
    files.write_json(directory / PER_CLASS, _per_class(run, tested))
    journal.artifact(PER_CLASS)
    with errors_as_notes(directory, journal, "the worst mistakes were not kept"):
        mistakes.write(directory, predictions, split, classes)
        journal.artifact(MISTAKES)
    if run.config.train.explain:
        with errors_as_notes(directory, journal, "the worst mistakes were not explained"):
            _explain(directory, run, tested)
            journal.artifact(EXPLAINED)
    if run.config.compression.kind != "none":
        files.write_json(directory / COMPRESSION, _compressed(run))
        journal.artifact(COMPRESSION)


def draw(directory: Path, run: Experiment, evaluation: Evaluation, journal: Journal) -> None:
    """Draw the student's plots. Errors: OSError for a full disk; else a plot that fails is a note."""
    with errors_as_notes(directory, journal, "no plots were drawn"):
        _draw(directory, run, evaluation, journal)


def _draw(directory: Path, run: Experiment, evaluation: Evaluation, journal: Journal) -> None:
    from ..report import figures
    from . import plots

    training, classes = run.training, run.training.loaders.classes
    shown = prominent(evaluation.of("student"), training.metrics, run.config.train.monitor)
    for path in plots.draw(
        directory, shown, evaluation.confusions["student"], evaluation.predictions["student"],
        training.loaders.test.split, classes, training.networks["student"], run.plan.get("student", {}),
    ):  # fmt: skip
        journal.artifact(f"{PLOTS}/{path.name}", PLOTS)
    if note := figures.boxes("".join(map(terminal.printable, classes))):
        tell(journal, note)


def _explain(directory: Path, run: Experiment, tested: Tested) -> None:
    """Store explanations of the student's worst mistakes."""
    from . import explained

    loaders, network = run.training.loaders, run.training.networks["student"]
    thresholds, fitted = tested.thresholds.get("student"), tested.calibrations.get("student")
    chosen = np.array(thresholds or [USUAL] * len(loaders.classes), dtype=np.float32) if loaders.many else None
    place = gradcam.find(network, run.config.data.input_shape)
    temperature = fitted.temperature if fitted else None
    explainer = explained.Explainer(network, place, loaders.test.normalize, loaders.classes, chosen, temperature)
    shown = explainer.mistakes(loaders.test.split, tested.evaluation.predictions["student"], mistakes.KEPT)
    explanations.write(directory / EXPLAINED, str(place), shown)


def _compressed(run: Experiment) -> dict[str, Any]:
    """What was pruned, and the input range and clip of every quantized layer, by network."""
    networks = run.training.networks
    content: dict[str, Any] = {}
    for name in networks.trained:
        layers = slim.fake_quantized(networks[name])
        content[name] = {
            "pruned": run.plan.get(name),
            "weight_bits": {layer: slim.bits(layers[layer])[0] for layer in layers},
            "ranges": {layer: slim.activation_range(layers[layer]) for layer in layers},
            "alphas": {layer: abs(float(alpha)) for layer, alpha in qat.alphas(networks[name]).items()},
        }
    return content


def _per_class(run: Experiment, tested: Tested) -> dict[str, Any]:
    """Precision, recall and F1 of each class, confusion matrix and curves of every network on the test images."""
    loaders, names = run.training.loaders, run.training.networks.trained
    of_network = _of_labels if loaders.many else _of_classes
    return {"classes": loaders.classes} | {name: of_network(name, tested, len(loaders.classes)) for name in names}


def _of_classes(name: str, tested: Tested, classes: int) -> dict[str, Any]:
    """A network's, where an image has one class."""
    confusion = tested.evaluation.confusions[name]
    each = of_classes(confusion)
    # The accuracy of a single class is its recall.
    content: dict[str, Any] = {
        "top1": each.recall.tolist(),
        "precision": each.precision.tolist(),
        "recall": each.recall.tolist(),
        "f1": each.f1.tolist(),
        "confusion": confusion.tolist(),
    }
    if scores := tested.evaluation.scores.get(name):
        content |= {"calibration": curves.reliability(scores), "curves": curves.of_classes(scores)}
    return content


def _of_labels(name: str, tested: Tested, classes: int) -> dict[str, Any]:
    """A network's, where an image has any number of labels."""
    confusion = tested.evaluation.confusions[name]
    each = of_classes(confusion)
    precisions = tested.evaluation.precisions[name]
    content: dict[str, Any] = {
        # A class without images has none.
        "average_precision": [None if math.isnan(one) else one for one in precisions] or [None] * classes,
        "precision": each.precision.tolist(),
        "recall": each.recall.tolist(),
        "f1": each.f1.tolist(),
        "threshold": tested.thresholds.get(name) or [USUAL] * classes,
        "confusion": confusion.reshape(classes, 4).tolist(),
    }
    if scores := tested.evaluation.scores.get(name):
        content |= {
            "calibration": curves.reliability(scores),
            "curves": curves.of_classes(scores),
            "micro": curves.of_all_labels(scores),
        }
    return content
