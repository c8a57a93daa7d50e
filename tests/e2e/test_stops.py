"""Runs that are stopped or killed: exit codes, MLflow's status, nothing left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.journal import events

SLOW = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "train.epochs=200", "data.batch_size=8",
        "train.log_every=1", "hydra.run.dir=run"]  # fmt: skip


def started(cwd):
    """A run that has logged its first step."""
    run = subprocess.Popen(
        [sys.executable, "-m", "runner", *SLOW], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    limit = time.monotonic() + 60
    while not any(event["event"] == "metrics" for event, _ in events(cwd / "run")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < limit
        time.sleep(0.1)
    return run


def children(parent):
    """Command line and id of every child of a process."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found[(status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()] = int(status.parent.name)
        except OSError:
            continue
    return found


def alive(process):
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(processes, within=20):
    limit = time.monotonic() + within
    while any(alive(process) for process in processes) and time.monotonic() < limit:
        time.sleep(0.1)
    return not any(alive(process) for process in processes)


def mlflow_status(cwd):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{cwd / 'outputs' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("default").experiment_id])
    return run.info.status


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_as_killed_with_a_checkpoint_and_no_child(tmp_path, number, code):
    run = started(tmp_path)
    below = children(run.pid).values()
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == code, said
    assert "Stopped by" in said
    assert gone(below)
    assert mlflow_status(tmp_path) == "KILLED"
    assert (tmp_path / "run" / "checkpoints" / "last").is_file()
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_signal_while_the_worker_still_starts_ends_the_run_as_killed(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "runner", *SLOW, "tracking=none"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 30
    while not (tmp_path / "run" / "journal.jsonl").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    time.sleep(0.3)
    run.terminate()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert "There was no checkpoint yet" in said


def test_a_second_signal_ends_the_worker_at_once_and_still_as_killed(tmp_path):
    run = started(tmp_path)
    [worker] = [process for name, process in children(run.pid).items() if "runner.worker" in name]
    os.kill(worker, signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert mlflow_status(tmp_path) == "KILLED"


def test_ctrl_c_ends_a_sweep(tmp_path):
    sweep = [*SLOW[:-1], "tracking=none", "-m", "train.seed=0,1", "hydra.sweep.dir=sweep"]
    run = subprocess.Popen(
        [sys.executable, "-m", "runner", *sweep], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    limit = time.monotonic() + 60
    while not any(event["event"] == "metrics" for event, _ in events(tmp_path / "sweep" / "0_train.seed=0")):
        assert time.monotonic() < limit
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert not (tmp_path / "sweep" / "1_train.seed=1").exists()


def test_a_worker_that_is_killed_ends_the_run_as_failed_and_says_so(tmp_path):
    run = started(tmp_path)
    below = children(run.pid)
    [worker] = [process for name, process in below.items() if "runner.worker" in name]
    os.kill(worker, signal.SIGKILL)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 5
    assert "SIGKILL" in said
    assert "memory" in said
    assert gone(below.values())
    assert mlflow_status(tmp_path) == "FAILED"


def test_when_the_command_itself_is_killed_nothing_is_left_running_and_the_run_is_failed(tmp_path):
    run = started(tmp_path)
    below = children(run.pid)
    run.kill()
    run.wait()
    assert gone(below.values())
    assert mlflow_status(tmp_path) == "FAILED"
