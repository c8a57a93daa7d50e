"""What a run ended with is read as it was written, or refused with the name of the file."""

from __future__ import annotations

import json

import pytest

from runner.errors import Damaged
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
