"""The end of a run: tests the best weights once, plots, exports and stores the result."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from pathlib import Path

from paddle import nn

from .. import config as cfg
from .. import device, terminal
from ..checkpoints import checkpoint, fitting, weights
from ..compression import ptq
from ..data import EvalLoader
from ..errors import DiskError, UserError
from ..kernels.layers import stock
from ..metrics.names import monitored
from ..runs import result as results
from ..runs.journal import LOG, RESULT, Journal
from ..runs.result import MONITORED, Progress, Result
from ..training.evaluation import evaluate
from ..training.state import Ending, Training
from ..training.thresholds import USUAL
from . import calibration, details
from .compress import TrainingImages
from .details import Tested
from .experiment import Experiment
from .finished import float_network
from .notes import tell
from .stage import accelerate

log = logging.getLogger("runner")


def finish(directory: Path, run: Experiment, journal: Journal, ending: Ending, seconds: float) -> None:
    """Test the best weights, export them, draw the plots and write `result.json`."""
    training, deployed = run.training, run.config.deploy.network
    _forget_training(training)
    began = time.perf_counter()
    thresholds, reference = _load_best(directory, run, journal)
    best = _best(training)
    if isinstance(run.config.compression, cfg.Ptq):
        seconds += time.perf_counter() - began
        best = _validated_again(run, best, thresholds, journal)
    terminal.say(f"Testing the {'last' if training.loaders.val is None else 'best'} weights …")
    tested = _test(run, thresholds, journal)
    # The student's metrics are also stored without the network's name.
    test = tested.evaluation.values | tested.evaluation.of("student")
    _log(journal, training, "test", test)
    details.write(directory, run, tested, journal)
    fitted = tested.calibrations.get(deployed)
    if fitted and (wanted := run.config.deploy.unknown_accuracy) is not None:
        tell(journal, calibration.note(fitted, wanted, training.loaders.measured_on))
    final, recommended = tested.evaluation.of(deployed) | run.costs[deployed], None
    if run.config.deploy.formats:
        measured, recommended = _deploy(directory, run, tested, reference, journal)
        final |= measured
    if run.config.train.plots:
        # What the export needed is freed before Matplotlib is loaded.
        device.restore_malloc()
        details.draw(directory, run, tested.evaluation, journal)
    _log(journal, training, "final", final)
    progress = training.progress
    if best is not None:
        journal.metrics(progress.step, progress.epochs_begun, {MONITORED: best})
    results.write(
        directory / RESULT,
        Result(
            final=final,
            test=test,
            monitor=f"val/{monitored(run.config.train.monitor)}",
            best=best,
            seconds=seconds,
            temperature=fitted.temperature if fitted else None,
            calibrations=tested.calibrations,
            thresholds=_thresholds(run, thresholds),
            exported=recommended,
            ending=ending.value,
            test_images=tested.evaluation.count,
            progress=Progress(progress.step, progress.best_step),
            epochs=progress.epochs_begun,
            device=run.device,
        ),
    )


def _best(training: Training) -> float | None:
    """The best value of the monitored metric in training; NaN if it was never a number, None without validation."""
    if training.loaders.val is None:
        return None
    return math.nan if training.progress.best is None else training.progress.best


def _forget_training(training: Training) -> None:
    """Free the memory that only training needs."""
    training.optimizations.clear()
    training.ema = None
    for name in training.networks.trained:
        training.networks[name].clear_gradients(set_to_zero=False)
    if device.is_cpu():
        device.restore_malloc()


def _load_best(directory: Path, run: Experiment, journal: Journal) -> tuple[dict[str, list[float]], nn.Layer | None]:
    """Give the networks their best weights, quantized where that comes after training.

    Returns their multi-label thresholds, by network, and the float network that an integer export is compared with.
    """
    training, compression = run.training, run.config.compression
    chosen = weights.read(directory, "best")
    fitting.initialize(training.networks, training.networks.trained, chosen, strict=True)
    reference = None
    if compression.quantize and run.config.deploy.formats:
        reference = float_network(run.config, run.config.deploy.network, chosen, len(training.loaders.classes))
    if isinstance(compression, cfg.Ptq):
        _quantize(directory, run, compression.quantize, chosen, journal)
    return chosen.thresholds, reference


def _quantize(
    directory: Path, run: Experiment, settings: cfg.CalibratedQuantization, chosen: weights.Weights, journal: Journal
) -> None:
    """Post-training quantization of the best weights: afterwards the networks are the quantized ones."""
    networks, loaders, classes = run.training.networks, run.training.loaders, len(run.training.loaders.classes)
    for name in networks.trained:
        images = TrainingImages(loaders)
        reference = float_network(run.config, name, chosen, classes) if settings.compares else None
        report = functools.partial(_tell_of, journal, name)
        with stock() if settings.compares else contextlib.nullcontext():
            ptq.quantize_and_calibrate(networks[name], settings, images, reference, run.config.train.seed, report)
    accelerate(run.config, networks)
    folder = checkpoint.save_final(directory, networks)
    journal.append("checkpoint", name=folder.name, better=False, final=True)


def _validated_again(
    run: Experiment, before: float | None, thresholds: dict[str, list[float]], journal: Journal
) -> float | None:
    """The monitored metric of the quantized networks: runs are compared by what they are in the end."""
    training, split = run.training, run.training.loaders.source.val
    if split is None or before is None:
        return before
    name = monitored(run.config.train.monitor)
    evaluation = evaluate(
        training.networks, EvalLoader(split, run.config.data), training.precision, training.k,
        metrics=training.metrics, chosen=thresholds,
    )  # fmt: skip
    value = evaluation.values[name]
    tell(journal, f"val/{name} is {value:.4f} after quantization, {before:.4f} before")
    return value


def _tell_of(journal: Journal, network: str, text: str) -> None:
    tell(journal, f"{network}: {text}")


def _test(run: Experiment, thresholds: dict[str, list[float]], journal: Journal) -> Tested:
    """Calibrate the networks on the validation images and measure them on the test images."""
    training = run.training
    if (split := training.loaders.measured_on) != "test":
        tell(journal, f"there is no test split: the final numbers were measured on the {split} split")
    calibrations = calibration.of_networks(training.networks, training.loaders, run.config, training.precision)
    evaluation = evaluate(
        training.networks, training.loaders.test, training.precision, training.k,
        details=True, metrics=training.metrics, chosen=thresholds, temperatures=calibration.temperatures(calibrations),
    )  # fmt: skip
    return Tested(evaluation, calibration.tested(calibrations, evaluation), thresholds)


def _log(journal: Journal, training: Training, group: str, values: dict[str, float]) -> None:
    named = {f"{group}/{name}": value for name, value in values.items()}
    journal.metrics(training.progress.step, training.progress.epochs_begun, named)


def _deploy(
    directory: Path, run: Experiment, tested: Tested, reference: nn.Layer | None, journal: Journal
) -> tuple[dict[str, float], str | None]:
    """Export the network, and measure the files.

    Returns the export's final metrics and the recommended file; nothing if it cannot be exported, which is a note.
    """
    from ..deploy import export, manifest
    from ..deploy.subject import Subject

    training, deployed = run.training, run.config.deploy.network
    fitted, thresholds = tested.calibrations.get(deployed), tested.thresholds.get(deployed)
    subject = Subject.of(run.config, training.networks, training.loaders.classes, fitted, thresholds, reference)
    try:
        exported = export.export(directory, subject, training.loaders.unchanged(), training.loaders.test, _begins)
    except UserError as error:
        tell(journal, f"not exported: {error}\nLater: {manifest.command(directory / manifest.EXPORT)}")
        return {}, None
    except Exception as error:
        if isinstance(error, OSError) and DiskError.is_of_a_write(error, directory):
            raise
        # The converters raise errors of any type, and a failed export must not lose a trained network.
        log.info("not exported", exc_info=True)
        reason = f"{type(error).__name__}: {error}. Where: {directory / LOG}"
        tell(journal, f"not exported: {reason}\nLater: {manifest.command(directory / manifest.EXPORT)}")
        return {}, None
    for note in [*exported.notes, *exported.failed]:
        tell(journal, note)
    return export.publish(journal, exported), exported.manifest.recommended


def _begins(stage: str) -> None:
    terminal.say(f"Export: {stage} …")


def _thresholds(run: Experiment, chosen: dict[str, list[float]]) -> dict[str, float] | None:
    """Multi-label thresholds of the deployed network by class; None for single-label images."""
    loaders = run.training.loaders
    if not loaders.many:
        return None
    usual = [USUAL] * len(loaders.classes)
    return dict(zip(loaders.classes, chosen.get(run.config.deploy.network, usual), strict=True))
