"""How a run ends, whatever its worker processes do: each case with a worker that does just that."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from runner.cli.train import train_inline
from runner.launch import nodes, supervisor, workers
from runner.launch.command import Command
from runner.processes import is_locked, locked
from runner.runs import protocol
from runner.runs.journal import LOCK, events
from tests.conftest import composed

STUB = [sys.executable, str(Path(__file__).with_name("stub.py"))]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def supervised(tmp_path, monkeypatch):
    """Supervises a run whose workers do what they are told, and returns its outcome and seconds."""
    directory = tmp_path / "run"
    (directory / "ranks").mkdir(parents=True)
    (directory / "checkpoints").mkdir()

    def supervise(*steps, tracking=None, **launch):
        monkeypatch.setenv("STUB", json.dumps(steps))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        overrides = [f"launch.{key}={value}" for key, value in launch.items()]
        overrides += [f"tracking.{key}={value}" for key, value in (tracking or {}).items()]
        config = composed("tracking=none", f"launch.nproc_per_node={len(steps)}", *overrides)
        command = Command(train_inline, STUB)
        began = time.monotonic()
        with locked(directory / LOCK) as lock:
            outcome = supervisor.supervise(command, config, directory, nodes.node(config.launch), lock)
        outcome.seconds, outcome.command = time.monotonic() - began, command
        return outcome

    supervise.directory = directory
    return supervise


def notes(directory):
    return [event["text"] for event, _ in events(directory) if event["event"] == "note"]


def test_a_worker_that_ends_well_finishes_the_run(supervised):
    outcome = supervised([["beat"]])
    assert (outcome.exit_code, outcome.status, outcome.reason) == (0, "FINISHED", "")
    [ended] = [event for event, _ in events(supervised.directory) if event["event"] == "ended"]
    assert (ended["status"], ended["exit_code"]) == ("FINISHED", 0)


def test_the_reason_that_a_worker_left_is_the_run_s(supervised):
    outcome = supervised([["fail", "The loss is not finite at step 3.", 4]])
    assert (outcome.exit_code, outcome.status) == (4, "FAILED")
    assert outcome.reason == "The loss is not finite at step 3."


def test_a_reason_of_an_earlier_attempt_is_not_this_one_s(supervised):
    protocol.write_failure(supervised.directory, 0, "long ago", 4)
    assert supervised([["sleep", 0]]).status == "FINISHED"


def test_a_worker_that_is_killed_is_lost_and_memory_is_the_guess(supervised):
    outcome = supervised([["beat"], ["SIGKILL"]])
    assert (outcome.exit_code, outcome.status) == (5, "FAILED")
    assert "SIGKILL" in outcome.reason
    assert "memory" in outcome.reason
    assert str(supervised.directory / "train.log") in outcome.reason


def test_a_crash_names_its_signal_and_the_log(supervised):
    outcome = supervised([["default", "SIGSEGV"], ["SIGSEGV"]])
    assert outcome.exit_code == 5
    assert "SIGSEGV" in outcome.reason
    assert "memory" not in outcome.reason


def test_where_there_is_a_checkpoint_the_reason_says_how_to_go_on(supervised):
    (supervised.directory / "checkpoints" / "last").write_text("step-00000001")
    assert "checkpoint.resume=auto" in supervised([["SIGKILL"]]).reason


def test_an_exit_code_without_a_reason_is_a_loss(supervised):
    outcome = supervised([[17]])
    assert outcome.exit_code == 5
    assert "exit code 17" in outcome.reason


@pytest.mark.parametrize(
    ("sent", "heard", "code"),
    [
        ("SIGINT", "SIGINT", 130),
        ("SIGTERM", "SIGTERM", 143),
        pytest.param(
            "SIGHUP",
            "SIGTERM",
            129,
            marks=pytest.mark.skipif(
                signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="under nohup a hang-up is ignored"
            ),
        ),
    ],
)
def test_a_signal_to_the_command_reaches_the_worker_and_stops_the_run(supervised, sent, heard, code):
    outcome = supervised([["beat"], ["sign", sent], ["until", heard], [143]])
    assert (outcome.exit_code, outcome.status) == (code, "KILLED")
    assert "Stopped by" in outcome.reason
    assert outcome.command.signals_received == [signal.Signals[sent]]


def test_a_signal_to_the_worker_alone_is_a_stop_even_before_it_can_note_it(supervised):
    outcome = supervised([["default", "SIGTERM"], ["SIGTERM"]])
    assert (outcome.exit_code, outcome.status) == (143, "KILLED")
    assert "There was no checkpoint yet" in outcome.reason


def test_the_same_wish_twice_within_a_moment_is_one(supervised):
    outcome = supervised(
        [["sign", "SIGINT"], ["sign", "SIGINT"], ["until", "SIGINT"], ["sleep", 0.3], ["mark", "saved"], [130]]
    )
    assert outcome.exit_code == 130
    assert (supervised.directory / "saved").exists()


def test_a_second_signal_later_kills_the_worker_and_is_still_a_stop(supervised):
    outcome = supervised([["sign", "SIGINT"], ["until", "SIGINT"], ["sleep", 2.3], ["sign", "SIGINT"], ["sleep", 60]])
    assert (outcome.exit_code, outcome.status) == (130, "KILLED")
    assert outcome.seconds < 20


def test_a_run_that_was_complete_when_the_signal_came_is_finished(supervised):
    outcome = supervised([["sign", "SIGTERM"], ["until", "SIGTERM"], [0]])
    assert outcome.status == "FINISHED"
    assert outcome.command.signals_received == [signal.SIGTERM]


def test_a_worker_without_a_heartbeat_has_stalled_and_was_asked_where_it_is(supervised):
    outcome = supervised([["beat"], ["stalls"]], timeout_s=1)
    assert (outcome.exit_code, outcome.status) == (5, "FAILED")
    assert "stalled" in outcome.reason
    assert (supervised.directory / "asked0").exists()
    assert 1 < outcome.seconds < 15


def test_a_worker_that_works_behind_the_last_step_has_not_stalled(supervised):
    assert supervised([["beat"], ["behind the last step", 3.5]], timeout_s=2).status == "FINISHED"


def test_a_stopped_worker_behind_the_last_step_is_ended(supervised):
    outcome = supervised([["beat"], ["behind the last step", 0.2], ["SIGSTOP"]], timeout_s=1.5)
    assert outcome.exit_code == 5
    assert "stalled" in outcome.reason


def test_a_lost_worker_is_started_again_as_often_as_the_config_allows(supervised):
    outcome = supervised([["beat"], ["first attempt", "SIGKILL"], ["mark", "attempt"]], max_restarts=1)
    assert outcome.status == "FINISHED"
    assert (supervised.directory / "attempt").read_text() == "1"
    [note] = notes(supervised.directory)
    assert note.startswith("start 2 of 2")
    assert "SIGKILL" in note


def test_a_worker_that_is_lost_again_ends_the_run(supervised):
    outcome = supervised([["SIGKILL"]], max_restarts=2)
    assert outcome.exit_code == 5
    assert len(notes(supervised.directory)) == 2


def test_what_a_user_has_to_mend_is_not_tried_again(supervised):
    outcome = supervised([["fail", "no such data", 3]], max_restarts=3)
    assert outcome.exit_code == 3
    assert not notes(supervised.directory)


def test_a_run_that_is_to_stop_is_not_started_again(supervised):
    outcome = supervised([["sign", "SIGTERM"], ["until", "SIGTERM"], ["SIGKILL"]], max_restarts=3)
    assert outcome.exit_code == 143
    assert not notes(supervised.directory)


def test_the_process_that_failed_first_is_named_and_the_other_one_ended(supervised):
    outcome = supervised([["beat"], ["sleep", 60]], [["beat"], ["SIGKILL"]])
    assert outcome.exit_code == 5
    assert "Process 1 ended with SIGKILL" in outcome.reason
    assert outcome.seconds < 15


def test_the_reason_of_a_process_counts_more_than_the_lost_connection_of_another(supervised):
    outcome = supervised([["mark", "lost"], [5]], [["until", "lost"], ["sleep", 0.3], ["fail", "no image 7", 3]])
    assert (outcome.exit_code, outcome.reason) == (3, "no image 7")


def test_where_all_that_failed_lost_a_connection_the_one_that_is_left_has_stalled(supervised):
    outcome = supervised([[5]], [["SIGSTOP"]])
    assert outcome.exit_code == 5
    assert "Process 1 stalled" in outcome.reason
    assert outcome.seconds < 15


def test_each_process_is_told_its_rank_and_the_way_to_the_others(supervised):
    outcome = supervised([["mark", "zero"], ["until", "one"]], [["mark", "one"], ["until", "zero"]])
    assert outcome.status == "FINISHED"


def test_the_directory_stays_locked_while_a_worker_lives(supervised, monkeypatch):
    monkeypatch.setenv("STUB", json.dumps([[["until", "go"]]]))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    config = composed("tracking=none")
    with locked(supervised.directory / LOCK) as lock:
        started = workers.Workers(nodes.node(config.launch), supervised.directory, config, 0, [lock], worker=STUB)
    assert is_locked(supervised.directory / LOCK)
    (supervised.directory / "go").touch()
    assert started.wait(60) is None
    assert not is_locked(supervised.directory / LOCK)


def test_a_worker_dies_with_its_command(supervised, monkeypatch):
    """The command is a process of its own, which is killed."""
    child = os.fork()
    if child == 0:
        supervised([["mark", "lives"], ["sleep", 60]])
        os._exit(0)
    limit = time.monotonic() + 30
    while not (supervised.directory / "lives").exists():
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    limit = time.monotonic() + 10
    while is_locked(supervised.directory / LOCK):
        assert time.monotonic() < limit, "the worker holds the lock still"
        time.sleep(0.02)


@pytest.mark.parametrize("measures", [True, False])
def test_the_machine_is_measured_where_that_is_asked_for(supervised, measures):
    outcome = supervised([["sleep", 1.3]], tracking={"system_metrics": measures, "system_metrics_s": 1})
    assert outcome.status == "FINISHED"
    names = {name for event, _ in events(supervised.directory) for name in event.get("values", ())}
    assert ("system/cpu_utilization_percentage" in names) is measures


def test_a_run_that_its_sweep_ends_early_has_neither_failed_nor_a_result(supervised):
    outcome = supervised([["early", "worse than the median"], [143]], [["until", "SIGTERM"], [143]])
    assert (outcome.exit_code, outcome.status, outcome.reason) == (0, "STOPPED_EARLY", "worse than the median")
    [ended] = [event for event, _ in events(supervised.directory) if event["event"] == "ended"]
    assert (ended["status"], ended["exit_code"]) == ("STOPPED_EARLY", 0)


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_of_the_user_s_while_a_run_ends_early_is_the_user_s(supervised, sent, code):
    outcome = supervised([["early", "worse than the median"], ["sign", sent], ["until", sent], [code]])
    assert (outcome.exit_code, outcome.status) == (code, "KILLED")


def test_a_failure_while_a_run_ends_early_is_a_failure(supervised):
    outcome = supervised([["early", "worse than the median"], ["fail", "The disk is full.", 3]])
    assert (outcome.exit_code, outcome.status, outcome.reason) == (3, "FAILED", "The disk is full.")


def test_an_early_end_of_an_earlier_attempt_is_not_this_one_s(supervised):
    protocol.write_early_end(supervised.directory, "long ago")
    assert supervised([["default", "SIGTERM"], ["SIGTERM"]]).status == "KILLED"
