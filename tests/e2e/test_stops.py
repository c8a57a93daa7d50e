"""Runs that are stopped or killed: exit codes, MLflow's status, nothing left running."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.processes import ENVIRONMENT, children, gone, has_logged, mlflow_runs, run, start, wait_until, worker_of

SLOW = ["data=synthetic", "model=custom", "model.target=tests.samples:slow", "train.epochs=200", "data.batch_size=8",
        "train.log_every=1", "hydra.run.dir=run", "deploy.formats=[]"]  # fmt: skip


def started(cwd):
    """A run that has logged its first step."""
    run = start(*SLOW, cwd=cwd)
    wait_until(lambda: has_logged(cwd / "run"), process=run)
    return run


def mlflow_status(cwd):
    _, [run] = mlflow_runs(f"sqlite:///{cwd / 'outputs' / 'mlflow.db'}")
    return run.info.status


@pytest.mark.smoke
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


def test_ctrl_c_while_the_command_imports_ends_it_without_a_traceback(tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "runner", "mode=nonsense"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        # A line follows each import; many come after this one.
        next(line for line in process.stderr if line.split()[-1] == "omegaconf")
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.5])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_verb_loads_paddle_ends_it_with_one_line(tmp_path, number, code, seconds):
    verb = start("data", "data=synthetic", "data.train_images=64", cwd=tmp_path)
    wait_until(lambda: "libpaddle" in Path(f"/proc/{verb.pid}/maps").read_text(), process=verb)
    time.sleep(seconds)
    verb.send_signal(number)
    _, said = verb.communicate(timeout=60)
    assert (verb.returncode, len(said.strip().splitlines())) == (code, 1), said
    assert said.strip().startswith("Stopped by")


def test_a_terminal_that_is_closed_ends_the_run_as_killed_with_a_checkpoint(tmp_path):
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "runner", *SLOW], ENVIRONMENT)
    reader = threading.Thread(target=drained, args=[terminal], daemon=True)
    reader.start()
    wait_until(lambda: has_logged(tmp_path / "run"))
    os.kill(child, signal.SIGHUP)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    assert mlflow_status(tmp_path) == "KILLED"
    assert (tmp_path / "run" / "checkpoints" / "last").is_file()


def drained(terminal):
    with contextlib.suppress(OSError):
        while os.read(terminal, 4096):
            pass


def test_a_signal_while_the_worker_still_starts_ends_the_run_as_killed(tmp_path):
    run = start(*SLOW, "tracking=none", cwd=tmp_path)
    wait_until(lambda: (tmp_path / "run" / "journal.jsonl").exists(), process=run)
    time.sleep(0.3)
    run.terminate()
    _, said = run.communicate(timeout=60)
    assert run.returncode == 143, said
    assert "There was no checkpoint yet" in said


def test_a_second_signal_ends_the_worker_at_once_and_still_as_killed(tmp_path):
    run = started(tmp_path)
    os.kill(worker_of(run), signal.SIGSTOP)
    run.send_signal(signal.SIGINT)
    time.sleep(2.5)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert mlflow_status(tmp_path) == "KILLED"


def test_ctrl_c_ends_a_sweep(tmp_path):
    sweep = [*SLOW[:-1], "tracking=none", "-m", "train.seed=0,1", "hydra.sweep.dir=sweep"]
    run = start(*sweep, cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "sweep" / "0_train.seed-0"), process=run)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert not (tmp_path / "sweep" / "1_train.seed-1").exists()


def test_a_worker_that_is_killed_ends_the_run_as_failed_and_says_so(tmp_path):
    run = started(tmp_path)
    below = children(run.pid)
    os.kill(worker_of(run), signal.SIGKILL)
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
    # What delivers to MLflow ends once that has everything.
    assert gone(below.values(), within=60)
    assert mlflow_status(tmp_path) == "FAILED"


def test_a_process_that_stands_still_behind_the_last_step_is_ended(tmp_path):
    options = [
        *SLOW,
        "train.epochs=1",
        "schedule.warmup_epochs=0",
        "launch.timeout_s=5",
        "deploy.formats=[onnx]",
        "deploy.bench_s=9",
        "data.limit=80",
    ]
    process = start(*options, cwd=tmp_path)
    wait_until(lambda: (tmp_path / "run" / "per_class.json").exists(), process=process)
    os.kill(worker_of(process), signal.SIGSTOP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5, errors
    assert "stalled" in errors


def test_a_signal_that_comes_before_the_process_can_note_it_is_a_stop(tmp_path):
    process = start(*SLOW, cwd=tmp_path)
    wait_until(lambda: any("runner.worker" in name for name in children(process.pid)), process=process)
    os.kill(worker_of(process), signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Stopped by SIGTERM" in errors


def test_a_run_whose_output_nobody_reads_any_more_goes_on(tmp_path):
    process = start(*SLOW, "train.epochs=1", "data.limit=80", "schedule.warmup_epochs=0", cwd=tmp_path)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(60) == 0, errors
    assert (tmp_path / "run" / "result.json").is_file()
    assert "Error" not in errors


def test_two_commands_do_not_train_in_the_same_folder(tmp_path):
    options = [
        "data=synthetic",
        "model=custom",
        "model.target=tests.samples:slow",
        "tracking=none",
        "hydra.run.dir=run",
    ]
    training = start(*options, cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "run"), process=training)
    second = run(*options, "checkpoint.resume=auto", cwd=tmp_path)
    training.terminate()
    training.communicate(timeout=60)
    assert second.returncode == 2
    assert "is being trained by another process" in second.stderr
