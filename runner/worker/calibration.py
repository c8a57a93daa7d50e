"""Confidence calibration: the temperature of each network, and the confidence below which it answers `unknown`."""

from __future__ import annotations

from dataclasses import replace

from paddle import nn

from .. import config as cfg
from ..data import Loaders
from ..deploy.predict import probabilities
from ..models import Networks
from ..runs.result import Calibration
from ..training import temperature, unknown
from ..training.evaluation import Evaluation
from ..training.precision import Precision


def of_networks(
    networks: Networks, loaders: Loaders, config: cfg.Config, precision: Precision
) -> dict[str, Calibration]:
    """Calibrate every trained network on the validation split; nothing without one, or for multi-label images."""
    fitted = {name: of_network(networks[name], loaders, config, precision) for name in networks.trained}
    return {name: one for name, one in fitted.items() if one}


def of_network(network: nn.Layer, loaders: Loaders, config: cfg.Config, precision: Precision) -> Calibration | None:
    """Calibrate one network."""
    measured = temperature.validated(network, loaders, config.data, precision)
    if measured is None:
        return None
    logits, labels = measured
    fitted = Calibration(temperature.improving(logits, labels))
    if config.deploy.unknown_accuracy is None:
        return fitted
    values = probabilities(logits, temperature=fitted.temperature)
    confidences, is_right = values.max(axis=1), logits.argmax(axis=1) == labels
    threshold = unknown.best(confidences, is_right, config.deploy.unknown_accuracy)
    if threshold is None:
        return fitted
    accepted = unknown.accepted(confidences, is_right, threshold)
    return replace(fitted, unknown_below=threshold, accuracy=accepted.accuracy, coverage=accepted.coverage)


def temperatures(calibrations: dict[str, Calibration]) -> dict[str, float]:
    """Network → its temperature, where it has one."""
    return {name: one.temperature for name, one in calibrations.items() if one.temperature is not None}


def tested(calibrations: dict[str, Calibration], evaluation: Evaluation) -> dict[str, Calibration]:
    """The same calibrations with coverage and accuracy as measured on predictions at these temperatures."""
    measured = dict(calibrations)
    for name, one in calibrations.items():
        if one.unknown_below is not None:
            predictions = evaluation.predictions[name]
            accepted = unknown.accepted(predictions.confidence, ~predictions.is_wrong, one.unknown_below)
            measured[name] = replace(one, test_accuracy=accepted.accuracy, test_coverage=accepted.coverage)
    return measured


def note(calibration: Calibration, wanted: float, measured_on: str) -> str:
    """A note for the user on where a network answers `unknown`."""
    if calibration.unknown_below is None:
        return (
            f"deploy.unknown_accuracy={wanted:g}: no threshold reaches it on the validation images, so no image "
            "is unknown"
        )
    accuracy = "" if calibration.test_accuracy is None else f", of which {calibration.test_accuracy:.1%} are right"
    return (
        f"unknown below a probability of {calibration.unknown_below:.4f}: {calibration.test_coverage:.1%} of the "
        f"{measured_on} images are above it{accuracy}"
    )
