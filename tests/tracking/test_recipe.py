"""The recipe for a tracker."""

from __future__ import annotations

from runner.runs.journal import events, tracked
from tests.recipes import followed


def test_a_tracker_is_one_file_and_one_yaml(tmp_path):
    run, errors = followed("A tracker", tmp_path, "tracking=[csv,lines]")
    assert not errors
    assert (run / "lines.txt").read_text().splitlines() == [event["event"] for event, _ in events(run)]
    assert tracked(run, "lines")["ended"]
