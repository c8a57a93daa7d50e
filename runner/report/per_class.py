"""The best run's classes in a report: recalls, confusion matrix, and curves of its probabilities."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from ..metrics import of_classes
from ..runs.result import Calibration, Result
from ..terminal import printable
from . import charts

#: Most classes for which the confusion matrix is a table of numbers.
NUMBERED = 20
#: Name of the micro-averaged curve.
ALL_LABELS = "all labels (micro-average)"
#: Pairs of confused classes that are named otherwise.
PAIRS = 12


def listed(per_class: dict[str, Any]) -> list[dict[str, Any]]:
    """Every class with recall, precision, F1 and the class it is most often confused with, the worst first."""
    if not per_class or "threshold" in per_class["student"]:
        return []
    names, matrix = per_class["classes"], np.array(per_class["student"]["confusion"])
    each = of_classes(matrix)
    tables = []
    for number, (name, top1) in enumerate(zip(names, per_class["student"]["top1"], strict=True)):
        others = matrix[number].copy()
        others[number] = 0
        count = int(others.max())
        tables.append(
            {
                "name": name,
                "images": int(matrix[number].sum()),
                "top1": top1,
                "precision": float(each.precision[number]),
                "f1": float(each.f1[number]),
                "as": f"{names[int(others.argmax())]} ({count})" if count else "",
            }
        )
    return sorted(tables, key=lambda one: one["top1"])


def confusion(per_class: dict[str, Any]) -> dict[str, Any] | None:
    """Rows of (count, share of the class); with many classes a picture, and the most frequent confusions."""
    if not per_class or "threshold" in per_class["student"]:
        return None
    names, counts = per_class["classes"], np.array(per_class["student"]["confusion"])
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    rows = [
        {"name": name, "cells": [(int(count), round(float(share), 3)) for count, share in zip(*row, strict=True)]}
        for name, row in zip(names, zip(counts, shares, strict=True), strict=True)
    ]
    wrong = counts * (1 - np.eye(len(names), dtype=int))
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(names[place // len(names)], names[place % len(names)], int(wrong.flat[place])) for place in places]
    # What happened once says nothing, unless nothing happened more often.
    least = 2 if pairs and pairs[0][2] > 1 else 1
    return {
        "names": names,
        "rows": rows if len(names) <= NUMBERED else [],
        "png": "" if len(names) <= NUMBERED else _heat(shares),
        "pairs": [pair for pair in pairs if pair[2] >= least],
    }


def labels(per_class: dict[str, Any]) -> list[dict[str, Any]]:
    """Multi-label: the metrics of each label, the lowest average precision first."""
    if not per_class or "threshold" not in per_class["student"]:
        return []
    student = per_class["student"]
    counts = np.array(student["confusion"]).reshape(-1, 2, 2)
    each = of_classes(counts)
    rows = [
        {
            "name": name,
            "images": int(counts[number, 1].sum()),
            "average_precision": precision,
            "precision": float(each.precision[number]),
            "recall": float(each.recall[number]),
            "f1": float(each.f1[number]),
            "threshold": threshold,
        }
        for number, (name, precision, threshold) in enumerate(
            zip(per_class["classes"], student["average_precision"], student["threshold"], strict=True)
        )
    ]
    return sorted(rows, key=lambda row: -1.0 if row["average_precision"] is None else row["average_precision"])


def probabilities(per_class: dict[str, Any], result: Result, deployed: str) -> dict[str, Any] | None:
    """Charts of the student's probabilities, with metrics of the run; None if the run stored none.

    `deployed`: the network that the run's temperature belongs to.
    """
    student = per_class.get("student", {})
    if not student.get("calibration"):
        return None
    # The micro-averaged curve needs a colour too.
    worst = student["curves"][: charts.COLORS - bool(student.get("micro"))]
    names = [printable(per_class["classes"][curves["label"]]) for curves in worst]
    # Earlier versions had a single temperature.
    before = Calibration(result.temperature if deployed == "student" else None)
    axes = {"roc": ("false positive rate", "true positive rate"), "precision_recall": ("recall", "precision")}
    ranked = {
        key: [
            charts.Curve(name, curves[key], number)
            for number, (name, curves) in enumerate(zip(names, worst, strict=True))
        ]
        for key in axes
    }
    many = "threshold" in student
    for key, curve in student.get("micro", {}).items():
        if key in ranked:
            ranked[key].append(charts.Curve(ALL_LABELS, curve, len(names)))
    if many and student.get("micro"):
        names = [*names, ALL_LABELS]
    titles = ("probability", "part with the label", "labels") if many else ()
    return {
        "many": many,
        "reliability": charts.reliability(student["calibration"], *titles),
        "error": result.test.get("calibration_error"),
        "calibration": result.calibrations.get("student", before),
        "curves": [charts.shares(lines, *axes[key]) for key, lines in ranked.items() if lines],
        "names": names,
        "some": len(worst) < len(per_class["classes"]),
    }


def _heat(shares: np.ndarray) -> str:
    """Shares as a picture with one pixel for each pair, more opaque for larger ones: PNG in base64."""
    pixels = np.zeros((*shares.shape, 4), dtype=np.uint8)
    pixels[..., :3] = (37, 99, 235)
    pixels[..., 3] = np.round(255 * np.sqrt(shares))
    stream = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
