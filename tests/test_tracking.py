"""Small parts of the mirror in MLflow; a whole run is in tests/e2e."""

from __future__ import annotations

from runner.journal import Journal, events


def test_a_line_that_is_not_complete_yet_is_not_read(tmp_path):
    journal = Journal(tmp_path)
    journal.append("note", text="first")
    with journal.path.open("a") as stream:
        stream.write('{"event": "note", "te')
    [(event, offset)] = list(events(tmp_path))
    assert event["text"] == "first"
    assert list(events(tmp_path, offset)) == []
    with journal.path.open("a") as stream:
        stream.write('xt": "second"}\n')
    assert [event["text"] for event, _ in events(tmp_path, offset)] == ["second"]
