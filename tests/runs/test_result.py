"""What a run ended with is read as it was written, or refused with the name of the file."""

from __future__ import annotations

import json
import math

import pytest

from runner.errors import Damaged
from runner.metrics import Goal
from runner.runs import result

PART = {
    "top1": [0.5, 1], "confusion": [[1, 1], [0, 2]],
    "calibration": [[4, 0.75, 0.7]],
    "curves": [{"label": 1, "roc": [[0, 0], [0.5, 1], [1, 1]], "precision_recall": [[1, 0.5]]}],
}  # fmt: skip


def written(folder, **changed):
    path = folder / "per_class.json"
    path.write_text(json.dumps({"classes": ["cat", "dog"], "student": PART | changed}))
    return path


def test_classes_are_read_with_their_curves_and_without(tmp_path):
    assert result.per_class(written(tmp_path))["student"] == PART
    old = {name: PART[name] for name in ("top1", "confusion")}
    (tmp_path / "per_class.json").write_text(json.dumps({"classes": ["cat", "dog"], "student": old}))
    assert result.per_class(tmp_path / "per_class.json")["student"] == old


@pytest.mark.parametrize(
    "changed",
    [
        {"calibration": [[4, 0.75]]}, {"calibration": [[0, 0.75, 0.7]]}, {"calibration": [[4, 7.5, 0.7]]},
        {"calibration": [[4, "NaN", 0.7]]}, {"curves": [{"label": 2, "roc": [[0, 0]], "precision_recall": [[1, 1]]}]},
        {"curves": [{"label": 0, "roc": [[0, -1]], "precision_recall": [[1, 1]]}]},
        {"curves": [{"label": 0, "roc": [], "precision_recall": [[1, 1]]}]},
        {"curves": [{"label": 0, "roc": [[0, 0]], "precision_recall": []}]},
        {"curves": [{"label": 0, "roc": [[0, 0]]}]},
    ],
)  # fmt: skip
def test_curves_that_cannot_be_drawn_are_damage(tmp_path, changed):
    with pytest.raises(Damaged, match=r"per_class\.json"):
        result.per_class(written(tmp_path, **changed))


@pytest.mark.parametrize(
    ("metrics", "validations", "goal", "best"),
    [
        # Validations before the last cut of a network do not decide.
        ({result.MONITORED: 0.74}, [0.97, 0.98, 0.71, 0.74], Goal.max, 0.74),
        ({result.MONITORED: math.nan}, [0.97], Goal.max, math.nan),
        # Of an earlier version.
        ({}, [0.5, math.nan, 0.9, 0.7], Goal.max, 0.9),
        ({}, [math.nan, 0.5, 0.9], Goal.min, 0.5),
        ({}, [math.nan], Goal.max, math.nan),
        ({"final/top1": 0.9}, [], Goal.max, None),
    ],
)
def test_the_best_value_is_the_one_that_the_run_decided_by(metrics, validations, goal, best):
    assert repr(result.best_of(metrics, validations, goal)) == repr(best)


def test_what_was_validated_but_never_a_number_is_not_replaced_by_a_test_result():
    numbers = {"final": {"top1": 0.9}, "test": {"top1": 0.9, "roc_auc": 0.8}, "monitor": "val/student/roc_auc"}
    assert math.isnan(result.Result(best=math.nan, seconds=1.0, **numbers).monitored)
    assert result.Result(best=None, seconds=1.0, **numbers).monitored == 0.8
