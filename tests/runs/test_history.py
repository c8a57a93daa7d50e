"""Journals of any length are read once, and in little memory."""

from __future__ import annotations

import tracemalloc

from runner.runs import journal
from runner.runs.history import history as read
from runner.runs.journal import JOURNAL, Journal


def test_the_last_value_of_a_step_counts_and_steps_rise(tmp_path):
    lines = Journal(tmp_path)
    lines.append("dataset", name="first", digest="", source="", profile={"train": 1})
    for step, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25), (3, float("nan"))):
        lines.append("metrics", step=step, epoch=0, values={"train/loss": value})
    lines.append("dataset", name="second", digest="", source="", profile={"train": 2})
    history = read(tmp_path)
    assert list(history.curves["train/loss"]) == [1, 2, 3]
    assert list(history.curves["train/loss"].values())[:2] == [0.1, 0.25]
    assert history.curves["train/loss"][3] != history.curves["train/loss"][3]
    assert history.dataset["profile"] == {"train": 2}


def test_a_long_curve_is_thinned_to_means_and_keeps_its_last_point(tmp_path):
    text = '{{"event": "metrics", "time": 1.0, "step": {}, "epoch": 0, "values": {{"train/loss": {}}}}}\n'
    (tmp_path / JOURNAL).write_text("".join(text.format(step, float(step)) for step in range(1, 1002)))
    thinned = read(tmp_path, points=100).curves["train/loss"]
    assert len(thinned) <= 101
    assert list(thinned.items())[-1] == (1001, 1001.0)
    # Of every 16 steps their mean, at the last of them; 8 are left over.
    assert list(thinned.items())[:-2] == [(16 * group, 16 * group - 7.5) for group in range(1, 63)]
    assert list(thinned.items())[-2] == (1000, 996.5)


def test_of_an_attempt_that_began_again_what_it_wrote_counts_and_the_rest_stays(tmp_path):
    lines = Journal(tmp_path)
    for step in range(1, 2001):
        lines.metrics(step, 0, {"train/loss": 1.0})
    lines.append("resumed", command=[])
    # Every other point came out as before, and was not written again.
    for step in range(1001, 2501, 2):
        lines.append("metrics", step=step, epoch=0, values={"train/loss": 3.0})
    thinned = read(tmp_path, points=64).curves["train/loss"]
    assert [*thinned] == sorted(thinned)
    assert {value for step, value in thinned.items() if step <= 1000} == {1.0}
    assert all(1.8 < value < 2.2 for step, value in thinned.items() if 1100 < step < 1900)
    assert {value for step, value in thinned.items() if step > 2064} == {3.0}


def test_from_the_end_events_are_the_same_as_from_the_beginning(tmp_path, monkeypatch):
    text = '{{"event": "metrics", "time": 1.0, "step": {}, "epoch": 0, "values": {{"a": "{}"}}}}\n'
    note = '{"event": "note", "time": 2.0, "text": "\\"metrics\\" 한"}\n'
    (tmp_path / JOURNAL).write_text(
        "".join(text.format(step, "Infinity") + note * (step % 3) for step in range(200)) + '{"event": "metrics"'
    )
    for block in (1, 7, 64, 1000, 1 << 20):
        monkeypatch.setattr(journal, "BLOCK", block)
        for kinds in (("metrics",), ("note",), ("note", "metrics"), ("ended",)):
            forward = [event for event, _ in journal.events(tmp_path, kinds=kinds)]
            assert forward == [event for event, _ in journal.events(tmp_path) if event["event"] in kinds]
            assert list(journal.latest(tmp_path, kinds)) == forward[::-1]
        offsets = [offset for _, offset in journal.events(tmp_path)]
        parts = journal.latest(tmp_path, ("metrics", "note"), offsets[10], offsets[20])
        assert list(parts)[::-1] == [event for event, _ in journal.events(tmp_path)][11:21]


def test_what_an_earlier_attempt_wrote_after_the_checkpoint_is_not_written_again(tmp_path):
    lines = Journal(tmp_path)
    for begin, end in ((1, 40), (21, 30)):
        lines.append("resumed" if begin > 1 else "started", command=[])
        for step in range(begin, end + 1):
            lines.append("metrics", step=step, epoch=0, values={"train/loss": step / begin})
    lines.append("resumed", command=[])
    again = Journal(tmp_path)
    again.continue_from(25)
    size = lines.path.stat().st_size
    for step in range(26, 41):
        again.metrics(step, 0, {"train/loss": step / 21 if step <= 30 else float(step)})
    assert lines.path.stat().st_size == size
    again.metrics(31, 0, {"train/loss": 31.5})
    again.metrics(25, 0, {"train/top1": 0.5})
    assert lines.path.stat().st_size > size


def test_reading_takes_a_small_part_of_what_the_journal_has(tmp_path):
    text = '{{"event": "metrics", "time": 1.0, "step": {}, "epoch": 0, "values": {{"train/loss": {}}}}}\n'
    (tmp_path / JOURNAL).write_text("".join(text.format(step, step / 7) for step in range(20_000)))
    tracemalloc.start()
    read(tmp_path, points=100)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < (tmp_path / JOURNAL).stat().st_size


def test_a_line_whose_time_is_no_number_is_left_out(tmp_path):
    (tmp_path / JOURNAL).write_text(
        '{"event": "started", "time": "NaN"}\n{"event": "started", "time": 1.0}\n[1]\n{"event": 3}\n'
    )
    assert [event["time"] for event, _ in journal.events(tmp_path)] == [1.0]
