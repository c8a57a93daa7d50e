"""The end of a run: what may fail without ending it."""

from __future__ import annotations

import errno

import pytest

from runner.runs.journal import Journal, events
from runner.worker import notes


def fail_in(directory, error):
    with notes.errors_as_notes(directory, Journal(directory), "no plots were drawn"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no such [font]"),
        OSError("unknown file format"),
        PermissionError(errno.EACCES, "denied", "/a/font.ttf"),
    ],
)
def test_a_picture_that_fails_is_a_note(tmp_path, error):
    fail_in(tmp_path, error)
    [note] = [event["text"] for event, _ in events(tmp_path)]
    assert note.startswith("no plots were drawn: ")
    assert str(error) in note


def test_a_disk_that_takes_no_picture_ends_the_run_as_always(tmp_path):
    with pytest.raises(OSError, match="space"):
        fail_in(tmp_path, OSError(errno.ENOSPC, "no space", str(tmp_path / "plots" / "mistakes.png")))
