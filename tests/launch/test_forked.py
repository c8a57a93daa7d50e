"""Workers of a sweep that are forked: each is what a started one would be, and ends alone."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import sys
from pathlib import Path

import pytest

from runner.cli.train import train_inline
from runner.launch import nodes, supervisor
from runner.launch.command import Command
from runner.launch.forked import Template
from runner.processes import is_locked, locked
from runner.runs import protocol
from runner.runs.journal import LOCK, LOG
from runner.runs.sweep import COMMAND
from tests.conftest import composed

STUB = [sys.executable, str(Path(__file__).with_name("stub.py"))]
TEMPLATE = [sys.executable, str(Path(__file__).with_name("stub_template.py"))]
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are started elsewhere")


configured = functools.cache(functools.partial(composed, "tracking=none"))


class Jobs:
    """Jobs of a sweep, one after the other, each with a worker that does what it is told."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.command = Command(train_inline, STUB, Template([*TEMPLATE, *words]))
        self.overrides: list[str] = []
        (folder / "sweep.json").write_text(json.dumps({"id": "x", "overrides": [], "shared": []}))

    def run(self, name, *steps, **launch):
        self.directory = self.folder / name
        (self.directory / "ranks").mkdir(parents=True)
        (self.directory / "checkpoints").mkdir()
        (self.directory / "stub.json").write_text(json.dumps([steps]))
        config = configured(*[f"launch.{key}={value}" for key, value in launch.items()], *self.overrides)
        with locked(self.directory / LOCK) as lock:
            return supervisor.supervise(self.command, config, self.directory, nodes.node(config.launch), lock)

    @property
    def template(self) -> int:
        assert self.command.template.process
        return self.command.template.process.pid

    @property
    def log(self) -> str:
        return (self.directory / LOG).read_text()


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with contextlib.ExitStack() as stack:
        # Whose command holds no lock, that sweep is to end.
        stack.enter_context(locked(tmp_path / COMMAND))

        def make(*words):
            made = Jobs(tmp_path, *words)
            stack.callback(made.command.template.close)
            return made

        yield make


def test_each_job_has_its_log_its_result_and_its_end(jobs):
    sweep = jobs()
    assert sweep.run("0", ["beat"], ["say", "first"]).status == "FINISHED"
    first = sweep.template
    assert "the worker is forked" in sweep.log
    assert "first" in sweep.log
    failed = sweep.run("1", ["say", "second"], ["fail", "The loss is not finite at step 3.", 4])
    assert (failed.exit_code, failed.reason) == (4, "The loss is not finite at step 3.")
    assert "first" not in sweep.log
    lost = sweep.run("2", ["beat"], ["SIGKILL"])
    assert (lost.exit_code, lost.status) == (5, "FAILED")
    assert "SIGKILL" in lost.reason
    odd = sweep.run("3", [7])
    assert "exit code 7" in odd.reason
    assert sweep.run("4", ["beat"]).status == "FINISHED"
    assert sweep.template == first
    assert not is_locked(sweep.directory / LOCK)


def test_a_forked_worker_is_what_a_started_one_is(jobs):
    sweep, facts = jobs(), {}
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        for name, fork in (("warm", True), ("0", True), ("1", False)):
            resource.setrlimit(resource.RLIMIT_CORE, (0, limit[1]))
            sweep.overrides = [f"sweep.fork_workers={fork}"]
            assert sweep.run(name, ["tell"]).status == "FINISHED"
            facts[name] = json.loads((sweep.directory / "facts.json").read_text())
            assert ("forked" in sweep.log) == fork
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
    forked, started = facts["0"], facts["1"]
    assert forked["limits"] == started["limits"] == [0, limit[1]]
    assert (forked["group"], forked["folder"]) == (started["group"], started["folder"])
    assert len(forked["held"]) == len(started["held"])
    own = {protocol.HEARTBEAT, protocol.COMPOSED}
    assert forked["variables"].keys() == started["variables"].keys()
    differing = {name for name, value in forked["variables"].items() if started["variables"][name] != value}
    assert differing <= own


def test_one_that_stalls_says_where_it_was_and_the_next_goes_on(jobs):
    sweep = jobs()
    outcome = sweep.run("0", ["beat"], ["stalls"], timeout_s=2)
    assert outcome.exit_code == 5
    assert "stalled" in outcome.reason
    assert (sweep.directory / "asked0").exists()
    assert sweep.run("1", ["beat"]).status == "FINISHED"


def test_a_job_whose_command_breaks_is_ended_and_the_next_is_forked(jobs, monkeypatch):
    def breaks(*_):
        if (sweep.directory / "begun").exists():
            raise ZeroDivisionError

    sweep = jobs()
    with monkeypatch.context() as context:
        context.setattr(supervisor, "_look", breaks)
        with pytest.raises(ZeroDivisionError):
            sweep.run("0", ["beat"], ["mark", "begun"], ["sleep", 60])
    template = sweep.template
    assert sweep.run("1", ["beat"]).status == "FINISHED"
    assert "the worker is forked" in sweep.log
    assert sweep.template == template


def test_signals_to_the_command_reach_it(jobs):
    sweep = jobs()
    outcome = sweep.run("0", ["beat"], ["signal", os.getpid(), "SIGINT"], ["until", "SIGINT"], [130])
    assert (outcome.exit_code, outcome.status) == (130, "KILLED")


def test_a_template_that_is_killed_takes_its_job_along_and_is_started_again(jobs):
    sweep = jobs()
    assert sweep.run("0", ["beat"]).status == "FINISHED"
    killed = sweep.template
    # Time for the template to say that it has forked: killed earlier, the worker is started in its place.
    outcome = sweep.run("1", ["beat"], ["sleep", 0.5], ["signal", killed, "SIGKILL"], ["sleep", 60])
    assert "SIGKILL" in outcome.reason
    assert not is_locked(sweep.directory / LOCK)
    assert sweep.run("2", ["beat"]).status == "FINISHED"
    assert "the worker is forked" in sweep.log
    assert sweep.template != killed


def test_a_job_that_was_lost_is_started_again_and_not_forked(jobs):
    sweep = jobs()
    assert sweep.run("0", ["first attempt", "SIGKILL"], ["mark", "attempt"], max_restarts=1).status == "FINISHED"
    assert (sweep.directory / "attempt").read_text() == "1"
    assert sweep.log.count("forked") == 1


def test_with_threads_nothing_is_forked_and_the_log_says_why(jobs):
    sweep = jobs("a thread")
    assert sweep.run("0", ["beat"]).status == "FINISHED"
    assert "the worker is started: it has 2 threads: " in sweep.log
    assert sweep.command.template.process is None


def test_other_variables_for_libraries_need_another_template(jobs):
    sweep = jobs()
    pids = set()
    for number, threads in enumerate((1, 1, 2)):
        sweep.overrides = [f"train.threads={threads}"]
        assert sweep.run(str(number), ["tell"]).status == "FINISHED"
        pids.add(sweep.template)
        facts = json.loads((sweep.directory / "facts.json").read_text())
        assert facts["variables"]["OMP_NUM_THREADS"] == str(threads)
    assert len(pids) == 2


def test_a_closed_template_is_gone(jobs):
    sweep = jobs()
    sweep.run("0", ["beat"])
    template = sweep.template
    sweep.command.template.close()
    with pytest.raises(ProcessLookupError):
        os.kill(template, 0)


def test_what_is_no_job_of_a_sweep_is_started(jobs):
    sweep = jobs()
    (sweep.folder / "sweep.json").unlink()
    assert sweep.run("0", ["beat"]).status == "FINISHED"
    assert sweep.command.template.process is None
