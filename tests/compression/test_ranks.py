"""Quantization on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.processes import ROOT, free_port


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two processes wrote down."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("ranks.py")
    command = [
        sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", str(folder),
        "--master", f"127.0.0.1:{free_port()}", str(script), str(folder),
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment | {"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1)]


def test_all_ranks_have_the_mean_of_what_each_of_them_saw(ranks):
    first, second = ranks
    assert first["before"] != second["before"]
    assert first["after"] == second["after"]
    mean = (np.array(first["before"]) + np.array(second["before"])) / 2
    assert first["after"] == pytest.approx(mean, rel=1e-6)


def test_a_training_step_on_different_images_leaves_the_same_ranges_on_all_ranks(ranks):
    first, second = ranks
    assert not set(first["indices"]) & set(second["indices"])
    assert first["stepped"] != first["initial"]
    assert first["stepped"] == second["stepped"]
