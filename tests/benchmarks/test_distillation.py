"""The comparison of what a student can follow."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import distillation
from tests.docs.pages import ROOT


def test_rows_are_compared_over_seeds_and_noise_is_called_so():
    scores = {"far": {0: 0.1, 1: 0.11, 2: 0.1}, "best": {0: 0.9, 1: 0.91, 2: 0.9}, "near": {0: 0.9, 1: 0.9, 2: 0.901}}
    lines = distillation.table(scores, {row: [1000, 1001, 1002] for row in scores})
    assert [line[0] for line in lines] == ["far", "best", "near"]
    assert [line[-1].split(" ")[-1] for line in lines] == ["(real)", "best", "(noise)"]
    assert lines[0][3] == "1,001"


@pytest.mark.slow
def test_its_quick_form_runs_every_row():
    command = [sys.executable, "-m", "benchmarks.distillation", "--quick", "data.image_size=32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=560)
    assert done.returncode == 0, done.stderr
    table = done.stdout.splitlines()[-len(distillation.ROWS) :]
    assert [any(row in line for line in table) for row in distillation.ROWS] == [True] * len(distillation.ROWS)
