"""One process and two: the same losses, evaluations and learning rates; replicas that are identical."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import ROOT, free_port
from tests.parallel.trained import COMPOSITIONS

SCRIPT = Path(__file__).with_name("trained.py")


def launched(folder, count):
    """The command of a script in `count` processes, and its environment."""
    given = [str(SCRIPT), str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if count == 1:
        return [sys.executable, *given], environment
    launch = [
        "-m", "paddle.distributed.launch", "--nproc_per_node", str(count), "--log_dir", str(folder), "--master",
        f"127.0.0.1:{free_port()}",
    ]  # fmt: skip
    return [sys.executable, *launch, *given], environment


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """(processes, rank) → what that process wrote down."""
    folder = tmp_path_factory.mktemp("trained")
    for count in (1, 2):
        command, environment = launched(folder, count)
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, env=environment)
        logs = "".join(path.read_text() for path in folder.glob("workerlog.*"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
    return {
        (count, rank): json.loads((folder / f"{count}-{rank}.json").read_text())
        for count, rank in ((1, 0), (2, 0), (2, 1))
    }


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_replicas_are_identical(said, name):
    first, second = said[2, 0][name], said[2, 1][name]
    assert first == second


@pytest.mark.parametrize("name", [name for name in COMPOSITIONS if "own statistics" not in name])
def test_two_processes_compute_what_one_does(said, name):
    alone, together = said[1, 0][name], said[2, 0][name]
    # A last bit decides now and then to which integer a value is rounded.
    quantized = "qat" in name
    assert together["losses"][0] == pytest.approx(alone["losses"][0], rel=2e-4 if quantized else 2e-6)
    assert together["losses"] == pytest.approx(alone["losses"], rel=5e-2 if quantized else 1e-4)
    assert together["sum"] == pytest.approx(alone["sum"], rel=1e-3)
    assert together["random"] == alone["random"]


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_schedule_plan_and_number_of_evaluated_images_do_not_depend_on_the_processes(said, name):
    alone, together = said[1, 0][name], said[2, 0][name]
    assert together["rates"] == alone["rates"]
    assert together["next_rates"] == alone["next_rates"]
    assert together["plan"] == alone["plan"]
    assert [one["count"] for one in together["validations"]] == [one["count"] for one in alone["validations"]]
