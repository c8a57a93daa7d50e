"""The end of a run: tests the best weights once, plots, exports and stores the result."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from .. import config as cfg
from .. import device, files, terminal
from ..checkpoints import checkpoint, weights
from ..compression import ptq, qat, slim
from ..config.monitor import monitored, prominent
from ..errors import DiskError, UserError
from ..kernels.layers import stock
from ..metrics import of_classes
from ..runs import explained as explanations
from ..runs import result as results
from ..runs.journal import EXPLAINED, LOG, MISTAKES, PER_CLASS, PLOTS, RESULT, Journal
from ..runs.result import Calibration, Progress, Result
from ..training import curves, gradcam
from ..training.evaluation import Evaluation, Predictions, evaluate
from ..training.state import Ending, Training
from ..training.thresholds import USUAL
from . import calibration, mistakes
from .compress import calibration_images
from .experiment import Experiment
from .finished import float_network
from .stage import accelerate

log = logging.getLogger("runner")
#: The file with the effects of compression, next to the results.
COMPRESSION = "compression.json"


def finish(directory: Path, run: Experiment, journal: Journal, ending: Ending, seconds: float) -> None:
    """Test the best weights, export them, draw the plots and write `result.json`."""
    training = run.training
    _forget_training(training)
    chosen = weights.read(directory, "best")
    weights.initialize(training.networks, training.networks.trained, chosen, strict=True)
    thresholds = chosen.thresholds
    deployed, reference = run.config.deploy.network, None
    if run.config.compression.quantize and run.config.deploy.formats:
        reference = float_network(run.config, deployed, chosen, len(training.loaders.classes))
    if isinstance(run.config.compression, cfg.Ptq):
        _quantize(directory, run, run.config.compression.quantize, chosen, journal)
    del chosen
    if (split := training.loaders.measured_on) != "test":
        _tell(journal, f"there is no test split: the final numbers were measured on the {split} split")
    calibrations = calibration.of_networks(training.networks, training.loaders, run.config, training.precision)
    evaluation = evaluate(
        training.networks, training.loaders.test, training.precision, training.k,
        details=True, metrics=training.metrics, chosen=thresholds, temperatures=calibration.temperatures(calibrations),
    )  # fmt: skip
    calibrations = calibration.tested(calibrations, evaluation)
    # The student's metrics are also stored without the network's name.
    test = evaluation.values | evaluation.of("student")
    final = evaluation.of(deployed) | run.costs[deployed]
    named = {f"test/{name}": value for name, value in test.items()}
    journal.metrics(training.progress.step, training.progress.epochs_begun, named)
    predictions = evaluation.predictions["student"]
    test_split, classes = training.loaders.test.split, training.loaders.classes
    network, plan = training.networks["student"], run.plan.get("student", {})
    if run.config.train.plots:
        with _errors_as_notes(directory, journal, "no plots were drawn"):
            from ..report import figures
            from . import plots

            shown = prominent(evaluation.of("student"), training.metrics, run.config.train.monitor)
            confusion = evaluation.confusions["student"]
            for path in plots.draw(directory, shown, confusion, predictions, test_split, classes, network, plan):
                journal.artifact(f"{PLOTS}/{path.name}", PLOTS)
            if note := figures.boxes("".join(map(terminal.printable, classes))):
                _tell(journal, note)
    _write_details(directory, run, evaluation, thresholds)
    journal.artifact(PER_CLASS)
    with _errors_as_notes(directory, journal, "the worst mistakes were not kept"):
        mistakes.write(directory, predictions, test_split, classes)
        journal.artifact(MISTAKES)
    if run.config.train.explain:
        with _errors_as_notes(directory, journal, "the worst mistakes were not explained"):
            _explain(directory, run, predictions, thresholds.get("student"), calibrations.get("student"))
            journal.artifact(EXPLAINED)
    if run.config.compression.kind != "none":
        _write_compression(directory, run)
        journal.artifact(COMPRESSION)
    fitted, own = calibrations.get(deployed), thresholds.get(deployed)
    if fitted and (wanted := run.config.deploy.unknown_accuracy) is not None:
        _tell(journal, calibration.note(fitted, wanted, split))
    exported = _deploy(directory, run, fitted, own, reference, journal) if run.config.deploy.formats else {}
    final |= exported.get("final", {})
    journal.metrics(
        training.progress.step,
        training.progress.epochs_begun,
        {f"final/{name}": value for name, value in final.items()},
    )
    progress = training.progress
    results.write(
        directory / RESULT,
        Result(
            final=final,
            test=test,
            monitor=f"val/{monitored(run.config.train.monitor)}",
            best=progress.best,
            seconds=seconds,
            temperature=fitted.temperature if fitted else None,
            calibrations=calibrations,
            thresholds=_thresholds(run, thresholds),
            exported=exported.get("file"),
            ending=ending.value,
            test_images=evaluation.count,
            progress=Progress(progress.step, progress.best_step),
            epochs=progress.epochs_begun,
            device=run.device,
        ),
    )


@contextlib.contextmanager
def _errors_as_notes(directory: Path, journal: Journal, what: str) -> Iterator[None]:
    """Within the context errors become notes: a finished run must not fail because a plot could not be drawn."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and DiskError.is_of_a_write(error, directory):
            # A full disk has a message of its own.
            raise
        log.exception("%s", what)
        _tell(journal, f"{what}: {type(error).__name__}: {error}. The rest of the run is complete")


def _explain(
    directory: Path, run: Experiment, predictions: Predictions, thresholds: list[float] | None, own: Calibration | None
) -> None:
    """Store explanations of the worst mistakes."""
    from . import explained

    loaders, network = run.training.loaders, run.training.networks["student"]
    chosen = np.array(thresholds or [USUAL] * len(loaders.classes), dtype=np.float32) if loaders.many else None
    place = gradcam.find(network, run.config.data.input_shape)
    temperature = own.temperature if own else None
    explainer = explained.Explainer(network, place, loaders.test.normalize, loaders.classes, chosen, temperature)
    shown = explainer.mistakes(loaders.test.split, predictions, mistakes.KEPT)
    explanations.write(directory / EXPLAINED, str(place), shown)


def _forget_training(training: Training) -> None:
    """Free the memory that only training needs."""
    training.optimizations.clear()
    training.ema = None
    for name in training.networks.trained:
        training.networks[name].clear_gradients(set_to_zero=False)
    if device.is_cpu():
        device.restore_malloc()


def _thresholds(run: Experiment, chosen: dict[str, list[float]]) -> dict[str, float] | None:
    """Multi-label thresholds of the deployed network by class; None for single-label images."""
    loaders = run.training.loaders
    if not loaders.many:
        return None
    usual = [USUAL] * len(loaders.classes)
    return dict(zip(loaders.classes, chosen.get(run.config.deploy.network, usual), strict=True))


def _deploy(
    directory: Path,
    run: Experiment,
    fitted: Calibration | None,
    thresholds: list[float] | None,
    reference: nn.Layer | None,
    journal: Journal,
) -> dict[str, Any]:
    """Export the network with its calibration `fitted`, and measure the files.

    Returns `final`: the export's final metrics; and `file`: the recommended file; both empty if it cannot be exported.
    """
    from ..deploy import export, manifest
    from ..deploy.subject import Subject

    training = run.training
    subject = Subject.of(run.config, training.networks, training.loaders.classes, fitted, thresholds, reference)
    try:
        exported = export.export(directory, subject, training.loaders.unchanged(), training.loaders.test)
    except UserError as error:
        _tell(journal, f"not exported: {error}\nLater: {manifest.command(directory)}")
        return {}
    except Exception as error:
        if isinstance(error, OSError) and DiskError.is_of_a_write(error, directory):
            raise
        # The converters raise errors of any type, and a failed export must not lose a trained network.
        log.info("not exported", exc_info=True)
        reason = f"{type(error).__name__}: {error}. Where: {directory / LOG}"
        _tell(journal, f"not exported: {reason}\nLater: {manifest.command(directory)}")
        return {}
    for note in exported.notes:
        _tell(journal, note)
    return {"final": export.publish(journal, exported), "file": exported.manifest.recommended}


def _report(journal: Journal, network: str, text: str) -> None:
    _tell(journal, f"{network}: {text}")


def _tell(journal: Journal, note: str) -> None:
    log.info("%s", note)
    terminal.say(note)
    journal.append("note", text=note)


def _quantize(
    directory: Path, run: Experiment, settings: cfg.CalibratedQuantization, chosen: weights.Weights, journal: Journal
) -> None:
    """Post-training quantization of the best weights: afterwards the networks are the quantized ones."""
    networks, loaders, classes = run.training.networks, run.training.loaders, len(run.training.loaders.classes)
    for name in networks.trained:
        images = calibration_images(loaders, settings.calibration_batches)
        reference = float_network(run.config, name, chosen, classes) if settings.compares else None
        report = functools.partial(_report, journal, name)
        with stock() if settings.compares else contextlib.nullcontext():
            ptq.quantize_and_calibrate(networks[name], settings, images, reference, run.config.train.seed, report)
    accelerate(run.config, networks)
    folder = checkpoint.save_final(directory, networks)
    journal.append("checkpoint", name=folder.name, better=False, final=True)


def _write_compression(directory: Path, run: Experiment) -> None:
    """Write what was pruned, and the input range and clip of every quantized layer."""
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
    files.write_json(directory / COMPRESSION, content)


def _write_details(
    directory: Path, run: Experiment, evaluation: Evaluation, thresholds: dict[str, list[float]]
) -> None:
    """Write accuracy, precision, recall and F1 of each class, confusion matrix and curves of every network on test."""
    training, classes = run.training, run.training.loaders.classes
    details: dict[str, Any] = {"classes": classes}
    for name, confusion in evaluation.confusions.items():
        each = of_classes(confusion)
        if training.loaders.many:
            details[name] = {
                # A class without images has none.
                "average_precision": [None if math.isnan(one) else one for one in evaluation.precisions[name]]
                or [None] * len(classes),
                "precision": each.precision.tolist(),
                "recall": each.recall.tolist(),
                "f1": each.f1.tolist(),
                "threshold": thresholds.get(name) or [USUAL] * len(classes),
                "confusion": confusion.reshape(len(classes), 4).tolist(),
            }
            if scores := evaluation.scores.get(name):
                details[name] |= {
                    "calibration": curves.reliability_of_labels(scores),
                    "curves": curves.of_classes(scores),
                    "micro": curves.of_all_labels(scores),
                }
            continue
        details[name] = {
            # The accuracy of a single class is its recall.
            "top1": each.recall.tolist(),
            "precision": each.precision.tolist(),
            "recall": each.recall.tolist(),
            "f1": each.f1.tolist(),
            "confusion": confusion.tolist(),
        }
        if scores := evaluation.scores.get(name):
            details[name] |= {"calibration": curves.reliability(scores), "curves": curves.of_classes(scores)}
    files.write_json(directory / PER_CLASS, details)
