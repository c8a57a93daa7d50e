"""Journals of any length are read once, and in little memory."""

from __future__ import annotations

import tracemalloc

import pytest

from runner.runs import journal
from runner.runs.journal import JOURNAL, Journal


def test_the_last_value_of_a_step_counts_and_steps_rise(tmp_path):
    lines = Journal(tmp_path)
    lines.append("dataset", name="first", digest="", source="", profile={"train": 1})
    for step, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, float("nan"))):
        lines.append("metrics", step=step, epoch=0, values={"train/loss": value})
    lines.append("dataset", name="second", digest="", source="", profile={"train": 2})
    history = journal.history(tmp_path)
    assert list(history.curves["train/loss"]) == [1, 2, 3]
    assert list(history.curves["train/loss"].values())[:2] == [0.1, 0.25]
    assert history.curves["train/loss"][3] != history.curves["train/loss"][3]
    assert history.dataset["profile"] == {"train": 2}


def test_a_long_curve_is_thinned_to_means_and_keeps_its_last_point(tmp_path):
    text = '{{"event": "metrics", "time": 1.0, "step": {}, "epoch": 0, "values": {{"train/loss": {}}}}}\n'
    (tmp_path / JOURNAL).write_text("".join(text.format(step, float(step)) for step in range(1, 1002)))
    thinned = journal.history(tmp_path, points=100).curves["train/loss"]
    assert len(thinned) <= 101
    assert list(thinned.items())[-1] == (1001, 1001.0)
    # Of steps 1 to 11: their mean, at the last of them.
    assert next(iter(thinned.items())) == (11, 6.0)
    assert sum(thinned.values()) / len(thinned) == pytest.approx(501, rel=0.02)


def test_reading_takes_a_small_part_of_what_the_journal_has(tmp_path):
    text = '{{"event": "metrics", "time": 1.0, "step": {}, "epoch": 0, "values": {{"train/loss": {}}}}}\n'
    (tmp_path / JOURNAL).write_text("".join(text.format(step, step / 7) for step in range(20_000)))
    tracemalloc.start()
    journal.history(tmp_path, points=100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / JOURNAL).stat().st_size


def test_a_line_whose_time_is_no_number_is_left_out(tmp_path):
    (tmp_path / JOURNAL).write_text(
        '{"event": "started", "time": "NaN"}\n{"event": "started", "time": 1.0}\n[1]\n{"event": 3}\n'
    )
    assert [event["time"] for event, _ in journal.events(tmp_path)] == [1.0]
