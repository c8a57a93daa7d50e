"""Sweeps whose jobs other processes run: joblib, submitit and Ray; what is lost when something breaks: nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.runs.journal import events
from tests.conftest import TINY
from tests.e2e.processes import (
    ENVIRONMENT,
    assert_mlflow_has_every_point_once,
    gone,
    has_logged,
    mlflow_runs,
    run,
    wait_until,
)

JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
SUBMITIT = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"]
RAY = ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"]
LAUNCHERS = {"joblib": JOBLIB, "submitit": SUBMITIT, "ray": RAY}
#: Whether all launchers go through every test; else those that each test says.
EVERY = "RUNNER_EVERY_LAUNCHER" in os.environ
#: Three jobs of some seconds each.
JOBS = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "data.batch_size=8", "data.limit=80",
        "schedule.warmup_epochs=0", "train.epochs=6", "train.log_every=1", "deploy.formats=[]", "-m",
        "train.seed=0,1,2", "hydra.sweep.dir=sweep"]  # fmt: skip
#: In the environment of every process of a command.
TAG = "RUNNER_TEST_TAG"


def launchers(*chosen):
    """A parameter `launcher`: those that are chosen, or all of them."""
    names = list(LAUNCHERS) if EVERY else list(chosen)
    return pytest.mark.parametrize("launcher", [LAUNCHERS[name] for name in names], ids=names)


@pytest.fixture
def begun(tmp_path):
    """Start a sweep as a terminal does, in a process group of its own; all its processes are ended with the test."""
    commands = []

    def start(*overrides):
        command = [sys.executable, "-m", "runner", *JOBS, *overrides]
        environment = ENVIRONMENT | {TAG: str(tmp_path)}
        commands.append(
            subprocess.Popen(
                command, cwd=tmp_path, env=environment, text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        return commands[-1]

    yield start
    for number in tagged(tmp_path):
        os.kill(number, signal.SIGKILL)


def tagged(tag, words=""):
    """The processes of a command, and all that they started; those whose command line has some words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if f"{TAG}={tag}".encode() in (place / "environ").read_bytes().split(b"\0"):
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words in line and line:
                    found.append(int(place.name))
        except OSError:
            continue
    return found


def ends(command, seconds=120):
    """(exit code, output, errors) of a command that ends in time."""
    said, errors = command.communicate(timeout=seconds)
    return command.returncode, said, errors


def job(folder, number):
    return folder / "sweep" / f"{number}_train.seed-{number}"


def statuses(folder):
    _, runs = mlflow_runs(f"sqlite:///{folder}/outputs/mlflow.db")
    return {int(run.data.tags["run_dir"].rpartition("-")[2]): run.info.status for run in runs}


def assert_resumed_to_the_end(folder, launcher):
    again = run(*JOBS, *launcher, "sweep.resume=true", cwd=folder, timeout=180)
    assert again.returncode == 0, again.stdout + again.stderr
    assert statuses(folder) == dict.fromkeys(range(3), "FINISHED")
    for number in range(3):
        assert_mlflow_has_every_point_once(f"sqlite:///{folder}/outputs/mlflow.db", job(folder, number))


@launchers("joblib")
def test_jobs_that_fail_are_told_and_the_others_finish(tmp_path, launcher):
    done = run(
        *TINY, "-m", *launcher, "optimizer.lr=0.001,-1,0.002", "hydra.sweep.dir=sweep", cwd=tmp_path, timeout=180
    )
    assert done.returncode == 2, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("\nSweep ") :]
    assert table.count("FINISHED") == 2
    assert "1_optimizer.lr-1: optimizer.lr=-1.0: must be above 0." in table
    assert re.search(r"Best +[02], val/student/top1 [\d.]+: python -m runner .*optimizer.lr=0.00", table)
    _, runs = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_eight_jobs_beside_each_other_write_one_new_store(tmp_path):
    done = run(
        *TINY, "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=8", "train.seed=range(8)", "hydra.sweep.dir=sweep",
        cwd=tmp_path, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    _, runs = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    assert len(runs) == 8
    for number in range(8):
        assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", job(tmp_path, number))


@pytest.mark.parametrize("how", ["ctrl_c", "terminated"])
@launchers("joblib", "submitit", "ray")
def test_a_sweep_that_is_stopped_leaves_checkpoints_and_nothing_running(begun, tmp_path, launcher, how):
    if not EVERY and (how == "ctrl_c") != (launcher is JOBLIB):
        pytest.skip("both ways with RUNNER_EVERY_LAUNCHER=1")
    command = begun(*launcher)
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    if how == "ctrl_c":
        os.killpg(command.pid, signal.SIGINT)
    else:
        command.terminate()
    code, said, errors = ends(command)
    assert code == {"ctrl_c": 130, "terminated": 143}[how], said + errors
    assert "KILLED" in said
    assert "Traceback" not in said + errors
    assert gone(tagged(tmp_path))
    assert (job(tmp_path, 0) / "checkpoints" / "last").is_file()
    assert set(statuses(tmp_path).values()) <= {"KILLED", "FINISHED"}
    assert_resumed_to_the_end(tmp_path, launcher)
    starts = [event["event"] for event, _ in events(job(tmp_path, 0))]
    assert starts.count("started") == starts.count("resumed") == 1


@launchers("joblib")
def test_the_jobs_of_a_command_that_is_killed_end_with_a_checkpoint(begun, tmp_path, launcher):
    command = begun(*launcher)
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    command.kill()
    ends(command)
    # Ray's own agents look for their parent now and then only.
    assert gone(set(tagged(tmp_path)) - set(tagged(tmp_path, "ray::")) | set(tagged(tmp_path, "ray::_run_job")))
    assert_resumed_to_the_end(tmp_path, launcher)


@launchers("submitit")
def test_a_launchers_process_that_is_killed_is_told_and_its_job_continued_on_resume(begun, tmp_path, launcher):
    command = begun(*launcher)
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    words = {"joblib": "loky", "submitit_local": "submitit.core._submit", "ray": "ray::"}
    kinds = words[launcher[0].partition("=")[2]]
    parents = [number for number in tagged(tmp_path, kinds) if any(runs_worker(number, tmp_path))]
    os.kill(parents[0], signal.SIGKILL)
    code, said, errors = ends(command)
    assert "Traceback (most recent call last)" not in errors.partition(" failed. ")[0]
    assert gone(tagged(tmp_path))
    assert "RUNNING" not in statuses(tmp_path).values()
    if code:
        # Ray tries a lost task again by itself, and the run goes on.
        assert code == 5, said + errors
        assert " failed. " in errors
        assert re.search(r"its processes were killed|the command that supervised the run was killed", said)
        assert "log: sweep/" in said
    assert_resumed_to_the_end(tmp_path, launcher)


def runs_worker(parent, tag):
    for number in tagged(tag, "runner.worker"):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        yield int(fields[1]) == parent


def test_a_training_process_that_is_killed_fails_its_job_alone(begun, tmp_path):
    command = begun(*JOBLIB)
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    [worker] = tagged(tmp_path, f"runner.worker {job(tmp_path, 0)}")
    os.kill(worker, signal.SIGKILL)
    code, said, errors = ends(command)
    assert code == 5, said + errors
    assert re.search(r"0_train.seed-0: The training process ended with SIGKILL", said)
    assert "log: sweep/0_train.seed-0/train.log" in said
    assert statuses(tmp_path) == {0: "FAILED", 1: "FINISHED", 2: "FINISHED"}


def test_a_job_that_submitit_takes_back_to_the_queue_goes_on_from_its_checkpoint(begun, tmp_path):
    command = begun(*SUBMITIT)
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    [task] = [number for number in tagged(tmp_path, "submitit.core._submit") if starts_job(number, tmp_path)]
    os.kill(task, signal.SIGUSR2)
    code, said, errors = ends(command)
    assert code == 0, said + errors
    happened = [event for event, _ in events(job(tmp_path, 0))]
    assert [event["event"] for event in happened].count("resumed") == 1
    # The last one is after the tags that the sweep gives its runs.
    assert [event["status"] for event in happened if event["event"] == "ended"] == ["KILLED", "FINISHED", "FINISHED"]
    assert statuses(tmp_path) == dict.fromkeys(range(3), "FINISHED")


def starts_job(task, tag):
    [worker] = tagged(tag, f"runner.worker {job(tag, 0)}")
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1]) == task


def test_jobs_of_two_processes_share_the_cores(tmp_path):
    done = run(
        *TINY, "-m", *JOBLIB, "train.threads=null", "launch.nproc_per_node=2", "train.seed=0,1",
        "hydra.sweep.dir=sweep", "data.batch_size=8", cwd=tmp_path, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("FINISHED") == 2
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["at_once"] == 2


def test_two_commands_do_not_run_one_sweep(begun, tmp_path):
    command = begun("tracking=none")
    wait_until(lambda: has_logged(job(tmp_path, 0), 2), process=command)
    other = run(*JOBS, "tracking=none", "sweep.resume=true", cwd=tmp_path)
    assert other.returncode == 2
    assert "is in use by another command" in other.stderr
    command.terminate()
    assert ends(command)[0] == 143
