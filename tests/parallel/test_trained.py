"""One process and two: the same losses, evaluations and learning rates; replicas that are identical."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.launch import workers
from runner.runs.protocol import PEERS
from tests.e2e.processes import ROOT
from tests.parallel.trained import COMPOSITIONS, PRECOMPUTED, TAUGHT, taught

#: What the fast suite trains; the slow tests train the others.
QUICK = ("cls in parts, with averages and clipping", "many labels, peers", TAUGHT, PRECOMPUTED)
OTHERS = tuple(name for name in COMPOSITIONS if name not in QUICK)
NAMES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
EXACT = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS if "own statistics" not in name)]
SCRIPT = Path(__file__).with_name("trained.py")


def started(folder, count, names):
    """A script in `count` processes, connected as those of a command are."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Memory of a run is for one training; these are several.
    ends = workers._connected(count)
    processes = []
    for rank, own in enumerate(ends):
        passed = [end.fileno() for end in own]
        several = {
            "PADDLE_TRAINERS_NUM": str(count), "PADDLE_TRAINER_ID": str(rank),
            PEERS: ",".join(map(str, passed)),
        }  # fmt: skip
        with (folder / f"{count}-{rank}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(folder), *names], stdout=log, stderr=log, pass_fds=passed,
                    env=environment | (several if count > 1 else {}),
                )
            )  # fmt: skip
    for end in itertools.chain.from_iterable(ends):
        end.close()
    return processes


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Name of a composition → (processes, rank) → what that process wrote down."""

    @functools.cache
    def train(names):
        folder = tmp_path_factory.mktemp("trained")
        taught(folder)
        for count in (1, 2):
            for process in started(folder, count, names):
                assert process.wait(timeout=400) == 0, "".join(path.read_text() for path in folder.glob("*.log"))
        return {
            (count, rank): json.loads((folder / f"{count}-{rank}.json").read_text())
            for count, rank in ((1, 0), (2, 0), (2, 1))
        }

    def of(name):
        return {process: own[name] for process, own in train(QUICK if name in QUICK else OTHERS).items()}

    return of


@pytest.mark.parametrize("name", NAMES)
def test_replicas_are_identical(said, name):
    assert said(name)[2, 0] == said(name)[2, 1]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_compute_what_one_does(said, name):
    alone, together = said(name)[1, 0], said(name)[2, 0]
    # A last bit decides now and then to which integer a value is rounded.
    quantized = "qat" in name or "lsq" in name
    assert together["losses"][0] == pytest.approx(alone["losses"][0], rel=2e-4 if quantized else 2e-6)
    assert together["losses"] == pytest.approx(alone["losses"], rel=5e-2 if quantized else 1e-4)
    assert together["sum"] == pytest.approx(alone["sum"], rel=1e-3)
    assert together["random"] == alone["random"]


@pytest.mark.parametrize("name", NAMES)
def test_schedule_plan_and_number_of_evaluated_images_do_not_depend_on_the_processes(said, name):
    alone, together = said(name)[1, 0], said(name)[2, 0]
    assert together["rates"] == alone["rates"]
    assert together["next_rates"] == alone["next_rates"]
    assert together["plan"] == alone["plan"]
    assert [one["count"] for one in together["validations"]] == [one["count"] for one in alone["validations"]]
