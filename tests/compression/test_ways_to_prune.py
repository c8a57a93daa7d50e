"""The command that compares ways to prune."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.e2e.processes import ROOT


@pytest.mark.slow
def test_ways_to_prune_are_compared_at_equal_macs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.compression", "--criteria", "--quick", "--keep", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[:22].strip(): line[22:].split() for line in done.stdout.splitlines()[3:]}
    assert set(rows) == {"dense", "bn_scale", "taylor, ranking", "taylor, in 4 cuts"}
    assert all(float(row[-3]) <= 0.5 for name, row in rows.items() if name != "dense")
