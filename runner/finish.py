"""The end of a run: the best weights are tested once, drawn and written down."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from . import files, weights
from .evaluation import Evaluation, evaluate
from .experiment import Experiment
from .journal import PLOTS, RESULT, Journal
from .training import Ending, Training


def finish(directory: Path, run: Experiment, journal: Journal, ending: Ending, seconds: float) -> None:
    """Test the best weights, draw the pictures and write `result.json`."""
    from . import plots

    training = run.training
    chosen = weights.read(directory, "best")
    weights.initialize(training.networks, training.networks.trained, chosen, strict=True)
    evaluation = evaluate(training.networks, training.loaders.test, training.precision, training.k, details=True)
    test = test_metrics(evaluation, training)
    final = {
        "top1": test["top1"],
        f"top{training.k}": test[f"top{training.k}"],
        "params": float(run.parameters),
    }
    named = {f"test/{name}": value for name, value in test.items()}
    named |= {f"final/{name}": value for name, value in final.items()}
    journal.metrics(training.progress.step, training.progress.epochs_begun, named)
    predictions = evaluation.predictions["student"]
    for path in plots.draw(directory, predictions, training.loaders.source.test, training.loaders.classes):
        journal.artifact(f"{PLOTS}/{path.name}", PLOTS)
    _write_details(directory, run, evaluation)
    journal.artifact("per_class.json")
    files.write_json(
        directory / RESULT,
        {
            "ending": ending.value,
            "final": final,
            "test": test,
            "test_images": evaluation.count,
            "monitor": run.config.train.monitor,
            "best": training.progress.best,
            "progress": asdict(training.progress),
            "epochs": training.progress.epochs_begun,
            "seconds": seconds,
            "device": run.device,
        },
    )


def test_metrics(evaluation: Evaluation, training: Training) -> dict[str, float]:
    """The metrics of every network, and those of the student under plain names (`top1`, `loss`) as well."""
    student = {name: evaluation.values[f"student/{name}"] for name in ("top1", f"top{training.k}", "loss")}
    return evaluation.values | student


def _write_details(directory: Path, run: Experiment, evaluation: Evaluation) -> None:
    """Per-class accuracy and confusion matrix of every network on the test split."""
    classes = run.training.loaders.classes
    details: dict[str, Any] = {"classes": classes}
    for name, predictions in evaluation.predictions.items():
        confusion = predictions.confusion(len(classes))
        accuracy = np.diag(confusion) / np.maximum(1, confusion.sum(axis=1))
        details[name] = {"top1": accuracy.tolist(), "confusion": confusion.tolist()}
    files.write_json(directory / "per_class.json", details)
