"""The results of a run: `result.json`, `per_class.json` and `mistakes.json`. Only this module reads and writes the
first."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

from .. import files, stored
from ..errors import Damaged
from ..metrics import Goal
from ..metrics.names import headline, monitored_metric

BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
#: The remedy for a damaged result.
REMEDY = "Remove it; the command of the run with checkpoint.resume=auto writes it again."
#: `Result.best` among the metrics of the journal, and so of MLflow.
MONITORED = "final/monitored"


@dataclass(frozen=True)
class Progress:
    """The final progress of a run."""

    step: int
    """Optimizer steps."""
    best_step: int
    """Step of the best weights."""


@dataclass(frozen=True)
class Calibration:
    """A network's confidence calibration, fitted on validation images."""

    temperature: float | None = None
    """The divisor of its logits; None if none is an improvement."""
    unknown_below: float | None = None
    """Probability of the most probable class below which it answers `unknown`; None: it always answers."""
    accuracy: float | None = None
    """Accuracy on the validation images that it answers."""
    coverage: float | None = None
    """The share of images that it answers."""
    test_accuracy: float | None = None
    """The same two on the test images; None without any."""
    test_coverage: float | None = None


@dataclass(frozen=True)
class Result:
    """`result.json`."""

    final: dict[str, float]
    """Numbers of the deployed network, by the name of a metric or a cost."""
    test: dict[str, float]
    """Test metrics of every network, `<network>/<metric>`, and of the student by their names alone."""
    monitor: str
    """The metric that decided which weights are the best."""
    best: float | None
    """Its best value; NaN if it was never a number, None if nothing was validated."""
    seconds: float
    """Seconds trained, and those in which teachers' logits were computed before training, over all attempts."""
    temperature: float | None = None
    """The divisor of the deployed network's logits; None: 1."""
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    """Network → its calibration."""
    thresholds: dict[str, float] | None = None
    """Class → probability from which on the deployed network predicts it; multi-label only."""
    exported: str | None = None
    """The exported file that is recommended."""
    ending: str | None = None
    """Why the loop ended. A run that was rebuilt from MLflow has neither this nor the fields below."""
    test_images: int = 0
    progress: Progress | None = None
    epochs: int = 0
    device: str = ""

    @property
    def monitored(self) -> float:
        """The value that runs are ranked by: the monitored metric of the best weights, on test without validation."""
        if self.best is not None:
            return float(self.best)
        # Runs of earlier versions have no loss among their final numbers.
        tested = self.test | self.final
        return float(tested.get(monitored_metric(self.monitor), tested[headline(tested).name]))

    @property
    def final_progress(self) -> Progress:
        """The final progress of a run that was trained here."""
        assert self.progress is not None
        return self.progress


def best_of(metrics: Mapping[str, float], validations: Iterable[float], goal: Goal | None) -> float | None:
    """`Result.best` from the last values of a run's metrics.

    `validations`: the monitored metric in each validation, which says it for runs of earlier versions: all of them,
    although those before the last cut of a network did not decide.
    """
    if MONITORED in metrics:
        return metrics[MONITORED]
    values = list(validations)
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return math.nan if values else None
    return min(numbers) if goal is Goal.min else max(numbers)


def write(path: Path, result: Result) -> None:
    """Errors: OSError."""
    files.write_json(path, asdict(result))


def add(path: Path, result: Result, final: dict[str, float]) -> None:
    """Add final numbers to a result. Errors: OSError."""
    write(path, replace(result, final=result.final | final))


def read(path: Path, whole: bool = False) -> Result | None:
    """The result of a run, `whole` for one that was trained here; None if it has none yet. Errors: Damaged."""
    result: Result | None = stored.read_json(path, Result, REMEDY)
    if result is None:
        return None
    needed = {headline(result.final).name, *({"params"} if whole else ())}
    if needed <= result.final.keys() and not (whole and result.progress is None):
        return result
    raise Damaged(f"{path} is damaged: it needs {', '.join(sorted(needed | {'progress'}))}. {REMEDY}")


class _Curves(TypedDict):
    label: int
    roc: list[list[float]]
    precision_recall: list[list[float]]


class _Told(TypedDict):
    top1: list[float]
    confusion: list[list[int]]


class _Drawn(TypedDict, total=False):
    """Earlier versions wrote less."""

    calibration: list[list[float]]
    curves: list[_Curves]
    micro: dict[str, list[list[float]]]


class _OfNetwork(_Told, _Drawn):
    pass


class _ToldOfMany(TypedDict):
    confusion: list[list[int]]
    average_precision: list[float | None]
    threshold: list[float]


class _OfMany(_ToldOfMany, _Drawn):
    pass


def per_class(path: Path) -> dict[str, Any]:
    """`per_class.json` of a run; empty if it has none yet. Errors: Damaged.

    `confusion` is [K, K]; multi-label [K, 4]: for each class true negatives, false positives, false negatives and true
    positives.
    """
    parts = stored.read_json(path, dict[str, Any]) or {}
    try:
        for name, part in parts.items():
            if name == "classes":
                stored.check(part, list[str], name)
                continue
            many = isinstance(part, dict) and "threshold" in part
            stored.check(part, _OfMany if many else _OfNetwork, name)
            columns = [part[key] for key in (_ToldOfMany if many else _Told).__annotations__]
            wide = [4 if many else len(parts["classes"])] * len(part["confusion"])
            is_whole = all(len(column) == len(parts["classes"]) for column in columns)
            stored.require(
                is_whole and wide == [*map(len, part["confusion"])], f"{name} does not have one row for each class"
            )
            stored.require(_can_be_drawn(part, len(parts["classes"])), f"{name} has a curve that cannot be drawn")
        stored.require(not parts or parts.keys() >= {"classes", "student"}, "a part is missing in it")
    except (ValueError, KeyError) as error:
        raise Damaged(f"{path} is damaged: {error}. {stored.REMEDY}") from error
    return parts


def _can_be_drawn(part: _Drawn, classes: int) -> bool:
    """Whether curves are of classes, and their numbers are shares."""
    bins = part.get("calibration", [])
    points = [row[1:] for row in bins]
    for curves in part.get("curves", []):
        points += curves["roc"] + curves["precision_recall"]
    for curve in part.get("micro", {}).values():
        points += curve
    # NaN and infinity are texts in JSON.
    return (
        all(len(point) == 2 and all(value not in stored.NO_NUMBERS for value in point) for point in points)
        and all(0 <= value <= 1 for point in points for value in point)
        and all(row[0] not in stored.NO_NUMBERS and row[0] > 0 for row in bins)
        and all(
            0 <= curves["label"] < classes and curves["roc"] and curves["precision_recall"]
            for curves in part.get("curves", [])
        )
    )


class _Mistake(TypedDict):
    index: int
    label: str
    predicted: str
    confidence: float
    png: str


class Mistake(_Mistake, total=False):
    """Of `mistakes.json`; earlier versions wrote no name."""

    name: str


class Mistakes(TypedDict):
    """`mistakes.json`: how many there were, and the worst."""

    images: int
    wrong: int
    worst: list[Mistake]


def mistakes(path: Path) -> dict[str, Any]:
    """`mistakes.json` of a run; empty if it has none yet. Errors: Damaged."""
    content = stored.read_json(path, Mistakes) or {}
    if not all(BASE64.fullmatch(mistake["png"]) for mistake in content.get("worst", [])):
        raise Damaged(f"{path} is damaged: an image in it is not base64. {stored.REMEDY}")
    return content
