"""What a report is made of."""

from __future__ import annotations

import json

import pytest

from runner.cli.verbs import report
from runner.errors import CheckpointError
from runner.runs.journal import SWEEP
from tests.damage.written import a_run


@pytest.mark.parametrize("names", [["first"], ["first", "second"]])
def test_sweeps_without_a_job_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / SWEEP).write_text(json.dumps({"id": "x", "overrides": [], "shared": []}))
    with pytest.raises(CheckpointError, match="no job of the sweep has begun"):
        report.main([*(str(tmp_path / name) for name in names), "--output", str(tmp_path / "page.html")])


def test_a_folder_is_all_runs_below_it(config_of, tmp_path, capsys):
    for name in ("a", "deep/b"):
        a_run(tmp_path / "tried" / name, config_of())
    report.main([str(tmp_path / "tried"), "--output", str(tmp_path / "page.html")])
    assert "## Comparison of runs\n\n2 runs" in (tmp_path / "page.md").read_text()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no run .*empty: it is not a run directory, a folder of runs"):
        report.main([str(tmp_path / "empty"), "--output", str(tmp_path / "page.html")])
    capsys.readouterr()
    with pytest.raises(CheckpointError, match="no run .*nowhere"):
        report.main([str(tmp_path / "nowhere"), "--output", str(tmp_path / "page.html")])
    assert capsys.readouterr().err == ""
