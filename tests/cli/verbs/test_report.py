"""What a report is made of."""

from __future__ import annotations

import json

import pytest

from runner.cli.verbs import report
from runner.errors import CheckpointError
from runner.runs.journal import SWEEP


@pytest.mark.parametrize("names", [["first"], ["first", "second"]])
def test_sweeps_without_a_job_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / SWEEP).write_text(json.dumps({"id": "x", "overrides": [], "shared": []}))
    with pytest.raises(CheckpointError, match="no job of the sweep has begun"):
        report.main([*(str(tmp_path / name) for name in names), "--output", str(tmp_path / "page.html")])
