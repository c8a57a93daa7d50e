"""Sweeps whose workers are forked leave what sweeps whose workers are started leave."""

from __future__ import annotations

import json
import os
import re
import signal
import sys

import pytest

from runner.runs.journal import MEASURED, events
from tests.conftest import TINY
from tests.e2e.processes import below, gone, has_logged, run, start, wait_until
from tests.e2e.test_sweeps import SYNTHETIC

CHANGING = {*MEASURED, "sweep_id"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="workers are started elsewhere")]


def told(directory):
    """What a journal says, without times and what a clock gave."""
    lines = []
    for event, _ in events(directory):
        event = {key: value for key, value in event.items() if key not in ("time", "command", "config")}
        if "values" in event:
            event["values"] = {name: value for name, value in event["values"].items() if name not in CHANGING}
        lines.append(event)
    return lines


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_byte_for_byte_those_of_started_workers(tmp_path, threads):
    swept = [*TINY, "tracking=none", "-m", "train.seed=0,1", "mode=cls,cls_distill", f"train.threads={threads}"]
    for name, fork in (("forked", True), ("started", False)):
        done = run(*swept, f"hydra.sweep.dir={name}", f"sweep.fork_workers={fork}", cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    jobs = sorted(path.name for path in (tmp_path / "started").glob("[0-9]*"))
    assert len(jobs) == 4
    for name in jobs:
        forked, started = tmp_path / "forked" / name, tmp_path / "started" / name
        assert "the worker is forked" in (forked / "train.log").read_text()
        assert "the worker is" not in (started / "train.log").read_text()
        weights = sorted(path.relative_to(started) for path in started.rglob("*.safetensors"))
        assert {path.name for path in weights} >= {"model.safetensors", "optimizer.safetensors"}
        for path in weights:
            assert (forked / path).read_bytes() == (started / path).read_bytes(), path
        assert told(forked) == told(started)
        assert sorted(path.name for path in forked.iterdir()) == sorted(path.name for path in started.iterdir())


def test_a_worker_that_is_killed_ends_its_job_alone_and_resuming_goes_on_where_it_was(tmp_path):
    command = start(*SYNTHETIC, "train.epochs=8", "-m", "train.seed=0,1,2", "hydra.sweep.dir=sweep", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "sweep" / "1_train.seed-1", 6), process=command)
    [template] = [number for words, number in below(command.pid) if "runner.worker.template" in words][:1]
    [worker] = [number for _, number in below(template)]
    os.kill(worker, signal.SIGKILL)
    said, errors = command.communicate(timeout=180)
    assert command.returncode == 5, said + errors
    assert said.count("FINISHED") == 2
    assert re.search(r"1_train.seed-1: The training process ended with SIGKILL", said)
    assert gone([template])
    again = run(*SYNTHETIC, "train.epochs=8", "-m", "train.seed=0,1,2", "hydra.sweep.dir=sweep", "sweep.resume=true",
                cwd=tmp_path, timeout=180)  # fmt: skip
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((tmp_path / "sweep" / "1_train.seed-1" / "result.json").read_text())["epochs"] == 8


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_command(tmp_path, how):
    command = start(*SYNTHETIC, "train.epochs=40", "-m", "train.seed=0,1", "hydra.sweep.dir=sweep", cwd=tmp_path)
    wait_until(lambda: has_logged(tmp_path / "sweep" / "0_train.seed-0", 4), process=command)
    # What delivers to MLflow ends when it has done that.
    processes = [number for name, number in below(command.pid) if "runner.worker" in name]
    assert len(processes) == 2
    command.send_signal(how)
    command.communicate(timeout=120)
    assert command.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how]
    assert gone(processes)
    assert (tmp_path / "sweep" / "0_train.seed-0" / "checkpoints" / "last").is_file() or how is signal.SIGKILL
