"""Several trackers of one run: each has every point once, also after the run was killed, resumed and extended."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pandas
import pytest

from runner.runs.history import curves
from tests.conftest import TINY
from tests.e2e.processes import (
    assert_mlflow_has_every_point_once,
    children,
    gone,
    has_logged,
    run,
    start,
    wait_until,
    worker_of,
)
from tests.e2e.test_outages import STEADY
from tests.tracking.test_trackers import scalars


def points(directory):
    return {(step, name): value for name, values in curves(directory).items() for step, value in values.items()}


def rows(directory):
    found = pandas.read_csv(directory / "metrics.csv")
    assert not found.duplicated(["step", "name"]).any()
    return {(step, name): value for step, name, value in zip(found.step, found.name, found.value, strict=True)}


def test_each_tracker_has_every_point_once_after_kills_and_a_resumption(tmp_path):
    words = [*STEADY, "train.epochs=12", "tracking=[mlflow,csv,tensorboard]", "checkpoint.every_steps=7"]
    training = start(*words, cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run", 30), process=training)
    mirrors = [number for name, number in children(training.pid).items() if "runner.tracking" in name]
    assert len(mirrors) == 3
    for number in mirrors:
        os.kill(number, signal.SIGKILL)
    wait_until(lambda: has_logged(tmp_path / "run", 60), process=training)
    # All that could say how the run ended.
    worker = worker_of(training)
    training.kill()
    training.communicate()
    wait_until(lambda: gone([worker]))
    resumed = run(*words, "checkpoint.resume=auto", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stderr == ""
    directory = tmp_path / "run"
    assert rows(directory) == pytest.approx(points(directory))
    assert scalars(directory / "tensorboard") == pytest.approx(points(directory), rel=1e-6)
    assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", directory)
    # Whoever gets the folder brings the files up to date, and writes to no store that only the run names.
    shutil.move(directory, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "metrics.csv").unlink()
    synced = run("sync", "elsewhere", cwd=tmp_path)
    assert synced.returncode == 0, synced.stderr
    assert rows(tmp_path / "elsewhere") == pytest.approx(points(tmp_path / "elsewhere"))


def test_the_jobs_of_a_sweep_share_a_folder_of_tensorboard(tmp_path):
    words = [*TINY, "tracking=tensorboard", f"tracking.also.tensorboard.folder={tmp_path}/board", "train.seed=0,1"]
    done = run("-m", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = list((tmp_path / "board").iterdir())
    assert len(folders) == 2
    assert all("final/top1" in {name for _, name in scalars(folder)} for folder in folders)


def test_a_run_with_a_tracker_of_somebody_elses_code_is_evaluated_without_it(tmp_path):
    code = "class Tracker:\n    def __init__(self, run): ...\n    def replay(self, events): ...\n"
    (tmp_path / "theirs.py").write_text(code)
    words = [*TINY, "hydra.run.dir=run", "tracking=custom", "tracking.also.custom.target=theirs:Tracker"]
    assert run(*words, cwd=tmp_path).returncode == 0
    (tmp_path / "theirs.py").write_text("raise AssertionError('imported')")
    done = run("eval", "run", cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path / "nobody")})
    assert done.returncode == 0, done.stderr
    refused = run("sync", "run", cwd=tmp_path, env={"XDG_STATE_HOME": str(tmp_path / "nobody")})
    assert refused.returncode == 2
    assert "--trust" in refused.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["final"]
