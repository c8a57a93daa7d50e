"""Processes: their working directory, their priority as the kernel has it, their time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from runner import processes
from runner.__main__ import command

STANDING_BACK = "from runner import processes; processes.yield_cpu(); print('ready', flush=True); input()"


@pytest.mark.parametrize("words", [["doctor"], ["tracking=none"], ["-m", "train.seed=1,2"], ["data", "data=digits"]])
def test_a_working_directory_that_was_removed_is_one_message(tmp_path, monkeypatch, capsys, words):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert command(words) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("There is no working directory: No such file or directory.")
    assert "cd DIR" in stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has an idle class")
def test_a_process_that_stands_back_takes_idle_cores_only_until_it_is_waited_for():
    child = subprocess.Popen(
        [sys.executable, "-c", STANDING_BACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "ready\n"
        idle = processes._may_reclaim_cpu()
        assert os.sched_getscheduler(child.pid) == (os.SCHED_IDLE if idle else os.SCHED_OTHER)
        processes.reclaim_cpu(child.pid)
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
        # An idle process never lowered its priority, which it could not raise again.
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == (0 if idle else 19)
    finally:
        child.communicate("\n", timeout=10)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to become another user")
def test_a_user_who_could_not_step_forward_again_never_takes_the_idle_class():
    code = (
        "import os, resource; resource.setrlimit(resource.RLIMIT_NICE, (0, 0)); os.setuid(65534)\n"
        "from runner import processes; processes.yield_cpu()\n"
        "print(os.sched_getscheduler(0) == os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, 0))"
    )
    # The modules are read before the user changes.
    code = f"import runner.processes\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True 19\n", done.stderr


def test_stepping_forward_for_a_process_that_is_gone_does_nothing():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    processes.reclaim_cpu(child.pid)


def test_a_watch_counts_the_time_in_which_its_process_runs_and_none_in_which_it_is_stopped():
    watching = (
        "import time; from runner.processes import Stopwatch\n"
        "watch, began = Stopwatch(), time.monotonic()\n"
        "print('ready', flush=True)\n"
        "while time.monotonic() - began < 3.5: watch.seconds(); time.sleep(0.05)\n"
        "print(watch.seconds())"
    )
    child = subprocess.Popen([sys.executable, "-c", watching], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(3)
    child.send_signal(signal.SIGCONT)
    output, _ = child.communicate(timeout=10)
    assert 0.3 < float(output) < 0.5 + processes.LONGEST_LOOK_S + 0.3


@pytest.mark.parametrize(("seconds", "ended"), [(0, False), (0.2, False), (30, True)])
def test_a_process_is_waited_for_no_longer_than_it_may_take(seconds, ended):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"])
    try:
        began = time.monotonic()
        assert processes.wait(child, seconds) == ended
        assert time.monotonic() - began < 10
    finally:
        child.kill()
        child.wait()
