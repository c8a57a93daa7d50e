"""`runner kernels` says what computes which convolution."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from runner.kernels import native

TINY = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "deploy.formats=[]", "tracking=none"]


def run(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments], cwd=folder, capture_output=True, text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")} | environment,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
def test_every_convolution_of_a_run_is_listed_with_both_times(tmp_path):
    assert "Nothing was measured yet" in run(tmp_path, "kernels").stdout
    assert run(tmp_path, *TINY).returncode == 0
    listed = json.loads(run(tmp_path, "kernels", "--json").stdout)
    assert listed["library"].startswith(str(tmp_path / "cache" / "runner" / "kernels-"))
    # Eleven blocks with a depthwise convolution each, no two of the same shape and stride.
    assert sum(row["groups"] > 1 for row in listed["measured"]) >= 8
    assert {row["computed_by"] for row in listed["measured"]} <= {"Paddle", "kernels"}
    table = run(tmp_path, "kernels").stdout
    assert table.count("\n") >= len(listed["measured"])


@pytest.mark.slow
def test_without_a_compiler_the_reason_is_said_and_training_goes_on(tmp_path):
    done = run(tmp_path, "kernels", CXX="no-such-compiler")
    assert done.returncode == 0
    assert "No compiled kernels: there is no C++ compiler" in done.stdout
    done = run(tmp_path, *TINY, "hydra.run.dir=run", CXX="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert "no compiled kernels, so training is several times slower" in done.stdout
