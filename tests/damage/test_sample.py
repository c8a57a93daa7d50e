"""A sample of the matrix that `make test-damage` runs whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_damaged_files_end_in_no_traceback_no_wrong_result_and_no_gap_in_a_list():
    words = ["--sample", "40", "--seed", "0", "--processes", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.damage", *words], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout
    assert "40 cases, 0 defects" in done.stdout
